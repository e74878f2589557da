// usage: node npm-generate.mjs FOLDER MODEL.gguf
// Sixteen greedy tokens from the native addon of npm's @node-llama-cpp/linux-x64, whose libraries lie in FOLDER, called
// as node-llama-cpp calls it. Prints the text and which CPU files ended up in this process.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, path] = process.argv.slice(2);
const addon = createRequire(import.meta.url)(`${folder}/llama-addon.node`);
addon.setLoggerLogLevel(0);
addon.loadBackends(folder);
await addon.init();
const model = new addon.AddonModel(path, { gpuLayers: 0, useMmap: true });
if (!(await model.init())) throw new Error("the model does not load");
const context = new addon.AddonContext(model, { contextSize: 256, batchSize: 64, threads: 1, flashAttention: true });
if (!(await context.init())) throw new Error("no context");
const sampler = new addon.AddonSampler(model);
sampler.applyConfig({ temperature: 0 });
let tokens = model.tokenize("The capital of France is", false);
const generated = [];
for (let position = 0; generated.length < 16; ) {
  context.initBatch(tokens.length);
  const [index] = context.addToBatch(0, position, tokens, new Uint32Array([tokens.length - 1]));
  position += tokens.length;
  await context.decodeBatch();
  generated.push(await context.sampleToken(index, sampler));
  tokens = new Uint32Array(generated.slice(-1));
}
console.log("generated", JSON.stringify(model.detokenize(new Uint32Array(generated))));
const loaded = readFileSync("/proc/self/maps", "utf8").match(/libggml-cpu-[^/\n]*\.so/g);
for (const file of new Set(loaded)) console.log("backend", file);
