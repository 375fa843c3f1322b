// Tools that the client calls, in rounds.
import { problem } from "./models.mjs";

const TEXT = "ibm/granite-4-micro";

/** A client's tools: one that adds, one that fails. */
function toolbox({ sdk, zod }, called) {
  const add = sdk.tool({
    name: "add",
    description: "Add two numbers",
    parameters: { a: zod.number(), b: zod.number() },
    implementation: ({ a, b }) => {
      called.push(["add", a, b]);
      return a + b;
    },
  });
  const fail = sdk.tool({
    name: "fail",
    description: "Always fails",
    parameters: {},
    implementation: () => {
      called.push(["fail"]);
      throw new Error("the tool is broken");
    },
  });
  return [add, fail];
}

export async function act(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const called = [];
  const events = [];
  const messages = [];
  const rounds = [];
  const options = {
    ...talk.args.options,
    onRoundStart: index => events.push(["round", index]),
    onToolCallRequestStart: (round, call, info) => events.push(["start", round, info?.toolCallId ?? null]),
    onToolCallRequestNameReceived: (round, call, name) => events.push(["name", name]),
    onToolCallRequestArgumentFragmentGenerated: (round, call, text) => events.push(["arguments", text]),
    onToolCallRequestEnd: (round, call, info) => events.push(["end", info.toolCallRequest]),
    onToolCallRequestFailure: (round, call, error) => events.push(["failure", error.constructor.name, error.message]),
    onPredictionCompleted: result => rounds.push([result.stats.stopReason, result.roundIndex]),
    onMessage: message => messages.push([message.getRole(), message.getText()]),
  };
  if (talk.args.replacement !== undefined) options.handleInvalidToolRequest = () => talk.args.replacement;
  const result = await model.act(talk.args.prompt, toolbox(talk, called), options);
  return { rounds: result.rounds, predictions: rounds, called, events, messages };
}

export async function failingTool(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  return problem(talk, () => model.act("[[tool=fail]]", toolbox(talk, [])));
}

export async function unreadableCall(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const called = [];
  const failures = [];
  const onToolCallRequestFailure = (round, call, { message, rawContent }) => failures.push({ message, rawContent });
  const error = await problem(talk, () =>
    model.act("[[garbled=add]]", toolbox(talk, called), { onToolCallRequestFailure }),
  );
  return { called, failures, error };
}

/** Tool calls that are only reported. */
export async function rawTools(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const requests = [];
  const prediction = model.respond(talk.args.prompt, {
    rawTools: { type: "toolArray", tools: talk.args.tools },
    ...talk.args.options,
    onToolCallRequestEnd: (call, info) => requests.push(info.toolCallRequest),
  });
  const { content, stats } = await prediction.result();
  return { content, stats, requests };
}
