// SDKs for Node as their users have them, each refused in every way at once; the same in and out as refused.py.
import OpenAI from "openai";
import { generateText } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { OpenRouter } from "@openrouter/sdk";

const [model] = process.argv.slice(2);
const jobs = {
  "openai-node": (baseURL, apiKey, input) => new OpenAI({ baseURL, apiKey }).responses.create({ model, input }),
  "ai-sdk": (baseURL, apiKey, prompt) =>
    generateText({ model: createOpenAI({ baseURL, apiKey }).responses(model), prompt }),
  "openrouter-node": (serverURL, apiKey, input) =>
    new OpenRouter({ serverURL, apiKey }).beta.responses.send({ responsesRequest: { model, input } }),
};

let input = "";
for await (const piece of process.stdin) input += piece;
const told = await Promise.all(JSON.parse(input).map(([who, url, key, question, seconds]) => Promise.race([
  new Promise((resolve) => setTimeout(resolve, seconds * 1000, { status: null, said: "still trying" })),
  jobs[who](url, key, question).then(() => ({ status: 200, said: "" }), (error) => {
    const last = error.lastError ?? error;
    return { status: last.status ?? last.statusCode ?? null, said: last.message };
  })])));
process.stdout.write(JSON.stringify(told), () => process.exit());
