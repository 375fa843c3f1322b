// Holds conversations with a server through LM Studio's JavaScript client, as its standard input says.
//
//   node witness.mjs <folder with node_modules>
//
// One line of JSON begins a conversation: {"id": 1, "name": "...", "sdk": "2", "url": "ws://...", "args": {...}}.
// {"id": 1, "say": "cancel"} tells a running conversation a word. Lines on standard output: what a conversation
// tells on its way ({"id", "told", ...}), what the client logs ({"id", "log"}), and its end ({"id", "result"} or
// {"id", "error"}). The end of the input ends the program.
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

import * as cancels from "./conversations/cancels.mjs";
import * as connections from "./conversations/connections.mjs";
import * as models from "./conversations/models.mjs";
import * as predictions from "./conversations/predictions.mjs";
import * as tools from "./conversations/tools.mjs";

const require = createRequire(join(process.argv[2], "package.json"));
const sdks = { 1: require("lmstudio-sdk-1"), 2: require("@lmstudio/sdk") };
const zod = require("zod").z;
const conversations = { ...cancels, ...connections, ...models, ...predictions, ...tools };
const running = new Map();

const print = line => process.stdout.write(JSON.stringify(line) + "\n");

/** One conversation: what it was asked, its clients, and words in both directions. */
class Talk {
  constructor({ id, name, sdk, url, args, token }) {
    Object.assign(this, { id, name, url, token, zod, args: args ?? {}, sdk: sdks[sdk], major: Number(sdk) });
    this.words = new Map();
    this.clients = [];
  }

  /** A client of the server, which is closed after the conversation. */
  connect(options = {}) {
    const log = level => (...parts) => print({ id: this.id, log: `${level}: ${parts.join(" ")}` });
    const logger = { info: log("info"), debug: () => {}, warn: log("warn"), error: log("error") };
    const auth = this.token === undefined ? {} : this.credentials();
    const all = { baseUrl: this.url, logger, verboseErrorMessages: false, ...auth, ...options };
    this.clients.push(new this.sdk.LMStudioClient(all));
    return this.clients.at(-1);
  }

  /** The API token, as this version takes it. */
  credentials() {
    if (this.major > 1) return { apiToken: this.token };
    const [clientIdentifier, clientPasskey] = this.token.slice("sk-lm-".length).split(":");
    return { clientIdentifier, clientPasskey };
  }

  tell(told, more = {}) {
    print({ id: this.id, told, ...more });
  }

  /** A promise that is kept when the other side says the word, or has said it. */
  heard(word) {
    if (!this.words.has(word)) {
      let say;
      const heard = new Promise(resolve => (say = resolve));
      this.words.set(word, { heard, say });
    }
    return this.words.get(word).heard;
  }

  say(word) {
    this.heard(word);
    this.words.get(word).say();
  }

  /** What the other side can know of an error. */
  describe(error) {
    const { name, title, displayData, code } = error ?? {};
    return { name: name ?? typeof error, message: String(error?.message ?? error), title, displayData, code };
  }

  async run() {
    const end = {};
    try {
      end.result = (await conversations[this.name](this)) ?? null;
    } catch (error) {
      end.error = this.describe(error);
    }
    await Promise.allSettled(this.clients.map(client => client[Symbol.asyncDispose]?.()));
    print({ id: this.id, ...end });
  }
}

function receive(line) {
  const order = JSON.parse(line);
  if (order.say !== undefined) {
    running.get(order.id)?.say(order.say);
    return;
  }
  const talk = new Talk(order);
  running.set(order.id, talk);
  talk.run().finally(() => running.delete(order.id));
}

createInterface({ input: process.stdin }).on("line", receive).on("close", () => process.exit(0));
