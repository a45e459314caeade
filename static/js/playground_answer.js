// What stands below an answer: its figures, or why there is none and what can be done.

/** The element with data-`name` in `within`. */
export function part(name, within) {
  return within.querySelector(`[data-${name}]`);
}

function factsOf(answer) {
  const { facts = {} } = answer;
  const found = [];
  if (answer.stopped) found.push("Stopped");
  if (facts.finish === "length") found.push("Cut at max. tokens");
  if (facts.usage) found.push(`${facts.usage.prompt_tokens.toLocaleString("en")} → ${facts.usage.completion_tokens.toLocaleString("en")} tokens`);
  if (facts.firstMs !== undefined) found.push(`${(facts.firstMs / 1000).toFixed(2)} s to first token`);
  const streamedS = (facts.totalMs - facts.firstMs) / 1000;
  if (facts.usage?.completion_tokens > 1 && streamedS > 0) found.push(`${Math.round(facts.usage.completion_tokens / streamedS).toLocaleString("en")} tokens/s`);
  if (answer.cost) found.push(answer.cost);
  if (facts.fallback) found.push(`Answered by ${facts.fallback}`);
  return found;
}

/** What is known of an answer, below it. */
export function showFacts(element, answer) {
  const place = part("facts", element);
  place.replaceChildren(
    ...factsOf(answer).map((text) => {
      const fact = document.createElement("span");
      fact.textContent = text;
      return fact;
    }),
  );
  if (!answer.facts?.recorded || answer.running) return;
  const receipt = document.createElement("a");
  receipt.href = `/dashboard/requests/${answer.facts.requestId}`;
  receipt.textContent = "Receipt";
  place.append(receipt);
}

// Where a refusal leads: to log in again, to the plan, to this page anew.
function wayOut({ status, code }) {
  const here = encodeURIComponent(location.pathname);
  if (status === 401) return ["Log in again", `/login?next=${here}`];
  if (code === "insufficient_quota") return ["See your plan", "/dashboard/plan"];
  if (status === 403) return ["Reload the page", location.pathname];
  return null;
}

function countDown(element, answer) {
  const until = answer.failure?.until ?? 0;
  const left = Math.ceil((until - Date.now()) / 1000);
  part("retry", element).disabled = left > 0;
  part("wait", element).textContent = left > 0 ? `Again in ${left} s.` : "";
  if (left > 0) setTimeout(() => element.isConnected && countDown(element, answer), 500);
}

export function showFailure(element, answer) {
  const box = part("failure", element);
  box.hidden = !answer.failure;
  if (!answer.failure) return;
  part("message", box).textContent = answer.failure.message;
  const way = wayOut(answer.failure);
  const link = part("way", box);
  link.hidden = !way;
  if (way) [link.textContent, link.href] = way;
  countDown(element, answer);
}
