// Cancels in every phase. The other side holds the server there, and says when to cancel.
import { problem } from "./models.mjs";
import { read } from "./predictions.mjs";

const TEXT = "ibm/granite-4-micro";

export async function cancelLoad(talk) {
  const client = talk.connect();
  const controller = new AbortController();
  talk.heard("cancel").then(() => controller.abort(new Error("enough")));
  const options = { verbose: false, signal: controller.signal };
  const work = talk.args.explicit ? () => client.llm.load(talk.args.key, options) : () => client.llm.model(talk.args.key, options);
  const error = await problem(talk, work);
  await talk.heard("look");
  return { error, loaded: (await client.llm.listLoaded()).map(entry => entry.identifier) };
}

/** By the prediction's own method, or by a signal. */
export async function cancelPrediction(talk) {
  const client = talk.connect();
  const model = await client.llm.model(talk.args.key ?? TEXT, { verbose: false });
  const controller = new AbortController();
  const prediction = model.respond(talk.args.prompt, { signal: controller.signal });
  const reading = read(prediction);
  await talk.heard("cancel");
  if (talk.args.signal) controller.abort();
  else await prediction.cancel();
  talk.tell("cancelled");
  return reading;
}

/** Before anything was sent. */
export async function cancelAtOnce(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const controller = new AbortController();
  controller.abort();
  return read(model.respond("[[words=500]]", { signal: controller.signal }));
}

/** Leaves the loop, which cancels nothing. */
export async function leaveStream(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  let pieces = 0;
  const prediction = model.respond("[[words=30]]");
  for await (const fragment of prediction) {
    pieces += fragment.content ? 1 : 0;
    if (pieces === 3) break;
  }
  talk.tell("left");
  await talk.heard("look");
  return { pieces };
}

export async function cancelAct(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const controller = new AbortController();
  talk.heard("cancel").then(() => controller.abort(new Error("enough")));
  const { zod, sdk } = talk;
  const add = sdk.tool({ name: "add", description: "", parameters: { a: zod.number() }, implementation: ({ a }) => a });
  const reasons = [];
  const onPredictionCompleted = ({ stats }) => reasons.push(stats.stopReason);
  const { rounds } = await model.act(talk.args.prompt, [add], { signal: controller.signal, onPredictionCompleted });
  return { rounds, reasons };
}
