// Lost connections, tokens, and what comes from a newer server.
import { problem } from "./models.mjs";

const TEXT = "ibm/granite-4-micro";

/** Waits for the server to drop all sockets while a prediction runs, and goes on with the same client. */
export async function reconnect(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const gone = client.system.whenDisconnected();
  await client.system.getLMStudioVersion(); // its socket is open
  const error = await problem(talk, () => model.respond("[[words=1000]]").result());
  await gone;
  const again = await client.llm.model(TEXT, { verbose: false });
  return { error, content: (await again.respond("[[say=back]]").result()).content };
}

/** A client that waits for the server to go. */
export async function alive(talk) {
  const client = talk.connect();
  const gone = client.system.whenDisconnected();
  await client.system.getLMStudioVersion(); // its socket is open
  talk.tell("connected");
  await gone;
  return "gone";
}

export async function greet(talk) {
  const model = await talk.connect().llm.model(TEXT, { verbose: false });
  return (await model.respond("[[say=hello]]").result()).content;
}

/** A prediction that must fail. */
export async function failing(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  talk.tell("loaded");
  await talk.heard("go");
  return problem(talk, () => model.respond(talk.args.prompt ?? "Hi").result());
}

export async function refused(talk) {
  return problem(talk, () => talk.connect().llm.listLoaded());
}

export async function downloadedModels(talk) {
  return talk.connect().system.listDownloadedModels();
}
