// A model server for tests: OpenAI's chat completions over real HTTP, plain and streaming, with scripted answers. Invariant: an
// answer depends on the conversation it is asked about, never on how often it was asked, so a repeated call gets the same
// answer; and every token it bills is counted, also when nobody is there any more to take the answer.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

export type Said = { readonly role: string; readonly content?: unknown; readonly tool_calls?: readonly { id: string; function: { name: string; arguments: string } }[]; readonly tool_call_id?: string };
export type Asked = {
  readonly messages: readonly Said[];
  readonly model: string;
  readonly stream?: boolean;
  readonly max_tokens?: number;
  readonly tools?: readonly { function: { name: string; parameters: unknown } }[];
};

export type Call = { readonly id?: string; readonly name: string; readonly args?: unknown; readonly raw?: string };
export type Answer = {
  readonly text?: string;
  readonly calls?: readonly Call[];
  readonly usage?: { readonly input: number; readonly output: number } | null;
  readonly finish?: string;
  /** Not an answer but this status, such as 429, with these headers. Nothing is billed. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Never answers (billed), answers these very bytes, or breaks off after so many pieces of a stream. */
  readonly hang?: true;
  readonly bytes?: string;
  readonly cutAfter?: number;
  /** Settles before the answer is sent; the call is billed already. */
  readonly before?: Promise<unknown>;
};

/** `turn` counts the answers of the model already in the conversation. */
export type Script = (asked: Asked, turn: number, times: number) => Answer | Promise<Answer>;

export type ModelServer = {
  readonly url: string;
  /** Every request, in order. */
  readonly asked: Asked[];
  /** Tokens billed so far. */
  readonly billed: { input: number; output: number; calls: number };
  /** Resolves when a caller has given up a request, with how often that was. */
  readonly hungUp: Promise<number>;
  env(): Record<string, string>;
};

/** Tokens as this server counts them: a quarter of the characters. */
export const tokensOf = (value: unknown): number => Math.ceil(JSON.stringify(value ?? "").length / 4);

export async function modelServer(t: Pick<TestContext, "after">, script: Script): Promise<ModelServer> {
  const asked: Asked[] = [];
  const billed = { input: 0, output: 0, calls: 0 };
  const times = new Map<string, number>();
  const givenUp = Promise.withResolvers<number>();
  let hungUp = 0;
  const server = createServer((request, response) => {
    void serve(request, response).catch((error: unknown) => {
      response.destroy();
      console.error(error);
    });
  });
  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = JSON.parse(await bodyOf(request)) as Asked;
    asked.push(body);
    response.on("close", () => void (response.writableEnded || givenUp.resolve(++hungUp)));
    const turn = body.messages.filter(({ role }) => role === "assistant").length;
    const same = JSON.stringify(body.messages);
    times.set(same, (times.get(same) ?? 0) + 1);
    const answer = await script(body, turn, times.get(same)!);
    if (answer.status !== undefined) {
      response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers });
      return void response.end(JSON.stringify({ error: { message: answer.text ?? `status ${answer.status}`, type: "test" } }));
    }
    const usage = answer.usage === undefined ? { input: tokensOf(body.messages), output: tokensOf([answer.text, answer.calls]) } : answer.usage;
    billed.calls++;
    billed.input += usage?.input ?? 0;
    billed.output += usage?.output ?? 0;
    if (answer.hang) return;
    await answer.before;
    if (answer.bytes !== undefined) return void response.writeHead(200, { "content-type": body.stream ? "text/event-stream" : "application/json" }).end(answer.bytes);
    if (body.stream) streamed(response, body, answer, usage);
    else plain(response, body, answer, usage);
  }
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  return { url, asked, billed, hungUp: givenUp.promise, env: () => ({ OPENAI_BASE_URL: url, OPENAI_API_KEY: "test" }) };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of request.setEncoding("utf8")) text += piece as string;
  return text;
}

const callOf = (call: Call, index: number, turn: number) => ({
  index,
  id: call.id ?? `call_${turn}_${index}`,
  type: "function",
  function: { name: call.name, arguments: call.raw ?? JSON.stringify(call.args ?? {}) },
});

const usageOf = (usage: { input: number; output: number } | null) =>
  usage === null ? undefined : { prompt_tokens: usage.input, completion_tokens: usage.output, total_tokens: usage.input + usage.output };

function plain(response: ServerResponse, asked: Asked, answer: Answer, usage: { input: number; output: number } | null): void {
  const turn = asked.messages.filter(({ role }) => role === "assistant").length;
  const calls = answer.calls?.map((call, index) => callOf(call, index, turn));
  const message = { role: "assistant", content: answer.text ?? null, ...(calls ? { tool_calls: calls } : {}) };
  response.writeHead(200, { "content-type": "application/json" }).end(
    JSON.stringify({
      id: "chatcmpl-test", object: "chat.completion", created: 0, model: asked.model, usage: usageOf(usage),
      choices: [{ index: 0, message, finish_reason: answer.finish ?? (calls ? "tool_calls" : "stop") }],
    }),
  );
}

function streamed(response: ServerResponse, asked: Asked, answer: Answer, usage: { input: number; output: number } | null): void {
  const turn = asked.messages.filter(({ role }) => role === "assistant").length;
  const deltas: unknown[] = (answer.text ?? "").match(/[^]{1,8}/gu)?.map((content) => ({ content })) ?? [];
  for (const [index, call] of (answer.calls ?? []).entries()) {
    const whole = callOf(call, index, turn);
    const { arguments: text } = whole.function;
    deltas.push({ tool_calls: [{ ...whole, function: { name: whole.function.name, arguments: text.slice(0, 5) } }] });
    if (text.length > 5) deltas.push({ tool_calls: [{ index, function: { arguments: text.slice(5) } }] });
  }
  const chunk = (delta: unknown, rest: object = {}) =>
    `data: ${JSON.stringify({ id: "chatcmpl-test", object: "chat.completion.chunk", created: 0, model: asked.model, choices: [{ index: 0, delta, finish_reason: null, ...rest }] })}\n\n`;
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const [i, delta] of deltas.entries()) {
    if (answer.cutAfter === i) return void response.flushHeaders(), void setImmediate(() => response.destroy());
    response.write(chunk(delta));
  }
  response.write(chunk({}, { finish_reason: answer.finish ?? (answer.calls ? "tool_calls" : "stop") }));
  if (usage) response.write(`data: ${JSON.stringify({ id: "chatcmpl-test", object: "chat.completion.chunk", created: 0, model: asked.model, choices: [], usage: usageOf(usage) })}\n\n`);
  response.end("data: [DONE]\n\n");
}
