// Lists, loads, information about models, and what needs no prediction.

const TEXT = "ibm/granite-4-micro";
const EMBEDDING = "text-embedding-nomic-embed-text-v1.5";

export async function lists(talk) {
  const client = talk.connect();
  const { version } = await client.system.getLMStudioVersion();
  const downloaded = await client.system.listDownloadedModels();
  const embeddings = await client.system.listDownloadedModels("embedding");
  const before = (await client.llm.listLoaded()).length;
  const model = await client.llm.load(talk.args.key, { verbose: false });
  await client.embedding.load(EMBEDDING, { verbose: false });
  const any = await client.llm.model();
  return {
    version,
    downloaded,
    embeddings: embeddings.map(entry => entry.modelKey),
    before,
    loaded: (await client.llm.listLoaded()).map(entry => entry.identifier),
    embedders: (await client.embedding.listLoaded()).map(entry => entry.identifier),
    any: any.identifier,
    info: await model.getModelInfo(),
    daemon: (await client.system.getInfo?.()) ?? null,
    variants: (await client.system.listDownloadedModelVariants?.(talk.args.key)) ?? null,
    state: (await model.getInstanceProcessingState?.()) ?? null,
    missing: (await client.llm.createDynamicHandle("nobody").getModelInfo()) ?? null,
  };
}

/** Loads on request, with progress, and again. */
export async function loadOnRequest(talk) {
  const client = talk.connect();
  const progress = [];
  const again = [];
  const onProgress = list => fraction => list.push(fraction);
  const first = await client.llm.model(talk.args.key, { verbose: false, ttl: 60, onProgress: onProgress(progress) });
  await client.llm.model(talk.args.key, { verbose: false, onProgress: onProgress(again) });
  const verbose = await client.llm.model(talk.args.other, { verbose: true });
  return { progress, again, ttl: (await verbose.getModelInfo()).ttlMs, first: first.identifier };
}

/** Explicit loads with a configuration and a name; unloads. */
export async function loadWithConfiguration(talk) {
  const client = talk.connect();
  const progress = [];
  const options = { verbose: false, onProgress: fraction => progress.push(fraction) };
  const named = await client.llm.load(TEXT, { ...options, identifier: "mine", ttl: 90, config: talk.args.config });
  const second = await client.llm.load(TEXT, { verbose: false });
  const third = await client.llm.load(TEXT, { verbose: false });
  const result = {
    identifiers: [named.identifier, second.identifier, third.identifier],
    progress,
    info: await named.getModelInfo(),
    context: await named.getContextLength(),
    configuration: await named.getLoadConfig(),
    base: (await named.getBasePredictionConfig?.()) ?? null,
  };
  await second.unload();
  await client.llm.unload("mine");
  result.left = (await client.llm.listLoaded()).map(entry => entry.identifier);
  result.problems = [
    await problem(talk, () => client.llm.unload("mine")),
    await problem(talk, () => named.respond("Hi").result()),
  ];
  return result;
}

/** Models with and without a time to live, while the other side lets time pass. */
export async function expire(talk) {
  const client = talk.connect();
  const short = await client.llm.load(TEXT, { verbose: false, identifier: "short", ttl: 60 });
  await client.llm.load(TEXT, { verbose: false, identifier: "for ever" });
  talk.tell("loaded");
  await talk.heard("used");
  await short.respond("Hi").result(); // its time begins anew
  talk.tell("answered");
  await talk.heard("look");
  const left = (await client.llm.listLoaded()).map(entry => entry.identifier);
  talk.tell("listed", { left });
  await talk.heard("look again");
  return (await client.llm.listLoaded()).map(entry => entry.identifier);
}

export async function estimate(talk) {
  const client = talk.connect();
  return (await client.llm.estimateResourcesUsage?.(TEXT, { contextLength: 1024 })) ?? null;
}

/** The errors of loads. */
export async function loadProblems(talk) {
  const client = talk.connect();
  const load = (namespace, key) => () => client[namespace].model(key, { verbose: false });
  return [
    await problem(talk, load("llm", "nobody/nothing")),
    await problem(talk, load("embedding", TEXT)),
    await problem(talk, load("llm", EMBEDDING)),
    await problem(talk, () => client.llm.load("nobody/nothing", { verbose: false })),
    await problem(talk, () => client.llm.model()),
  ];
}

export async function loadFails(talk) {
  return problem(talk, () => talk.connect().llm.model(TEXT, { verbose: false }));
}

export async function texts(talk) {
  const client = talk.connect();
  const model = await client.llm.model(TEXT, { verbose: false });
  const formatted = await model.applyPromptTemplate(talk.args.history);
  return {
    formatted,
    count: await model.countTokens(formatted),
    tokens: await model.tokenize(formatted),
    several: await model.tokenize(["a b", "c"]),
    stats: (await model.respond(talk.args.history).result()).stats,
  };
}

export async function embeddings(talk) {
  const client = talk.connect();
  const model = await client.embedding.model(EMBEDDING, { verbose: false });
  return {
    one: (await model.embed("hello")).embedding,
    several: (await model.embed(["hello", "world"])).map(entry => entry.embedding),
    tokens: (await model.tokenize("one two")).length,
    count: await model.countTokens("one two"),
    context: await model.getContextLength(),
  };
}

export async function download(talk) {
  const client = talk.connect();
  const found = await client.repository.searchModels({ searchTerm: "ministral", limit: 3 });
  const [option] = await found[0].getDownloadOptions();
  const updates = [];
  const phases = [];
  const key = await option.download({
    onProgress: update => updates.push(update),
    onStartFinalizing: () => phases.push("finalizing"),
  });
  const keys = (await client.system.listDownloadedModels()).map(entry => entry.modelKey);
  return { name: found[0].name, key, updates, phases, listed: keys.includes(key) };
}

/** The error of a piece of work, which has to fail. */
export async function problem(talk, work) {
  try {
    await work();
  } catch (error) {
    return talk.describe(error);
  }
  throw new Error("this should have failed");
}
