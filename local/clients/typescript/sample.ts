// Makes an image and waits for it, with nothing but the types. `make client` compiles this against the generated file.

import type { components, operations } from "./atelier";

type Job = components["schemas"]["Job"];
type Problem = components["schemas"]["Problem"];
type ImageRequest = operations["create_image"]["requestBody"]["content"]["application/json"];

const ENDED: Job["status"][] = ["succeeded", "failed", "canceled", "timed_out"];

async function call<Answer>(url: string, token: string, init: RequestInit = {}): Promise<Answer> {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", ...init.headers };
  const answer = await fetch(url, { ...init, headers });
  if (!answer.ok) {
    const problem: Problem = await answer.json();
    throw new Error(`${problem.code}: ${problem.detail} (${problem.request_id})`);
  }
  return answer.json();
}

export async function makeImage(api: string, token: string, prompt: string): Promise<string> {
  const request: ImageRequest = { prompt, count: 1 };
  // @ts-expect-error A field that there is not must not compile.
  const wrong: ImageRequest = { promt: prompt };
  let job = await call<Job>(`${api}/v1/images`, token, {
    method: "POST",
    body: JSON.stringify(request),
    headers: { "idempotency-key": crypto.randomUUID() },
  });
  while (!ENDED.includes(job.status)) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    job = await call<Job>(`${api}/v1/jobs/${job.id}`, token);
  }
  if (job.status !== "succeeded") throw new Error(job.error?.detail ?? job.status);
  return job.assets[0].url;
}
