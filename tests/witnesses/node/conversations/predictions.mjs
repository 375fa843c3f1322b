// Answers: streams, reasoning, pictures, structure, limits.
import { problem } from "./models.mjs";

const TEXT = "ibm/granite-4-micro";

/** Reads a prediction piece by piece and returns the pieces by kind, and the result. */
export async function read(prediction) {
  const kinds = [];
  const pieces = {};
  let structural = "";
  for await (const fragment of prediction) {
    const kind = fragment.reasoningType;
    if (kinds.at(-1) !== kind) kinds.push(kind);
    pieces[kind] = (pieces[kind] ?? "") + fragment.content;
    if (fragment.isStructural) structural += fragment.content;
  }
  const { stats, content, reasoningContent, nonReasoningContent, modelInfo, roundIndex } = await prediction.result();
  return { kinds, pieces, structural, stats, content, reasoningContent, nonReasoningContent, modelInfo, roundIndex };
}

export async function respond(talk) {
  const client = talk.connect();
  const model = await client.llm.model(talk.args.key, { verbose: false });
  const progress = [];
  const calls = [];
  const options = {
    ...talk.args.options,
    onPromptProcessingProgress: (fraction, details) => progress.push([fraction, details ?? null]),
    onFirstToken: () => calls.push("first"),
    onMessage: message => calls.push(message.getRole()),
  };
  return { ...(await read(model.respond(talk.args.history, options))), progress, calls };
}

/** Pictures of given base64, and one of a file. */
export async function pictures(talk) {
  const client = talk.connect();
  const model = await client.llm.model(talk.args.key, { verbose: false });
  const handles = [];
  for (const [name, data] of talk.args.pictures) handles.push(await client.files.prepareImageBase64(name, data));
  if (talk.args.path) handles.push(await client.files.prepareImage(talk.args.path));
  const chat = talk.sdk.Chat.empty();
  chat.append("user", "Compare", { images: handles });
  const files = handles.map(({ type, sizeBytes, name }) => ({ type, sizeBytes, name }));
  return { files, content: (await model.respond(chat).result()).content };
}

/** Pictures of another client, and for a model without eyes. */
export async function pictureProblems(talk) {
  const client = talk.connect();
  const handle = await client.files.prepareImageBase64("a.png", talk.args.picture);
  const chat = talk.sdk.Chat.empty();
  chat.append("user", "Look", { images: [handle] });
  const blind = await client.llm.model(TEXT, { verbose: false });
  const first = await problem(talk, () => blind.respond(chat).result());
  const other = await talk.connect().llm.model(talk.args.key, { verbose: false });
  return [first, await problem(talk, () => other.respond(chat).result())];
}

export async function structured(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const { zod } = talk;
  const book = zod.object({ title: zod.string(), year: zod.number().int().min(1900).max(2000) });
  const byZod = await model.respond("A book, please", { structured: book }).result();
  const bySchema = await model.respond("Give", { structured: { type: "json", jsonSchema: talk.args.schema } }).result();
  const json = await model.respond("Give", { structured: { type: "json" } }).result();
  const grammar = { type: "gbnf", gbnfGrammar: talk.args.grammar };
  const byGrammar = await model.respond("Well?", { structured: grammar }).result();
  return {
    zod: byZod.parsed,
    schema: JSON.parse(bySchema.content),
    json: JSON.parse(json.content),
    grammar: byGrammar.content,
  };
}

export async function limits(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const full = await client.llm.load(TEXT, { verbose: false, config: { contextLength: 40 } });
  const ended = async (handle, text, options) => {
    const { content, stats } = await handle.respond(text, options).result();
    return { content, stats };
  };
  return {
    short: await ended(model, "[[words=40]]", { maxTokens: 4 }),
    stopped: await ended(model, "[[say=one two three]]", { stopStrings: ["two"] }),
    full: await ended(full, "[[words=90]]", { contextOverflowPolicy: "stopAtLimit" }),
    overflow: await problem(talk, () => full.respond("word ".repeat(50)).result()),
  };
}

export async function completion(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  return read(model.complete("Once upon a time", { maxTokens: 30 }));
}

export async function draft(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  await model.unstable_preloadDraftModel("qwen/qwen3-4b");
  return read(model.respond("Hi", { draftModel: "qwen/qwen3-4b" }));
}

export async function parallel(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const numbers = Array.from({ length: talk.args.count }, (_, number) => number);
  const results = await Promise.all(numbers.map(number => model.respond(`[[say=answer ${number}]]`).result()));
  return results.map(result => result.content);
}

/** One answer, or its error. */
export async function simple(talk) {
  const client = talk.connect();
  const model = await client.llm.model(talk.args.key ?? TEXT, { verbose: false });
  return read(model.respond(talk.args.prompt ?? "Hi", talk.args.options));
}
