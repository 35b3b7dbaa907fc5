// The page's side of the timeline: it draws and asks; what a model or a tool said reaches the page through textContent only.

const TEXT = {
  title: (id) => `Run ${id}`,
  copied: "Copied",
  refresh: "Read again",
  first: "First step",
  previous: "Previous step",
  next: "Next step",
  last: "Last step",
  failure: "Next failure",
  noFailure: "No step failed",
  steps: "Steps",
  place: (n, total) => `Step ${n} of ${total}`,
  nothing: "This run has no steps.",
  lost: "No answer for 5 seconds: after a restart, run this cell again.",
  roles: { user: "User", assistant: "Assistant", system: "System", reasoning: "Thought", tool: "Tool" },
  arguments: "Arguments",
  result: "Result",
  error: "Error",
  data: "Also stored",
  noText: "(no text)",
  silent: "No message: the step changed only the state.",
  unended: "This step did not end.",
  changes: "What changed in the state",
  change: { added: "new", removed: "gone", changed: "changed", type: "changed" },
  same: "Nothing changed.",
  copyCode: "Copy code of this state",
};
const MOST_BARS = 300;
const GLYPHS = { user: "›", assistant: "‹", tool: "⚙", reasoning: "…", system: "§", state: "·" };
