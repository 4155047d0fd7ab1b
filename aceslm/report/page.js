"use strict";
// Texts of models and tasks reach the page only through textContent: nothing they hold is ever read as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const index = JSON.parse(byId("index").textContent);
  const CORRECT = 1, ERROR = 4, SEEN = 8, ADAPT = 16, FAILED = 32;
  const PAGE = 25, KEPT_BLOCKS = 48;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") made.className = value;
      else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child != null).map((child) => (child instanceof Node ? child : String(child))));
    return made;
  }

  // ---- blocks and stores -------------------------------------------------------------------------------
  const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=>?@^_`{|}~";
  const VALUES = new Uint8Array(128);
  [...DIGITS].forEach((digit, value) => (VALUES[digit.charCodeAt(0)] = value));

  function bytesOf(text) { // base 85: five characters for four bytes, the last ones filled up with the highest digit
    const bytes = new Uint8Array(Math.ceil(text.length / 5) * 4);
    const view = new DataView(bytes.buffer);
    for (let place = 0; place < text.length; place += 5) {
      let value = 0;
      for (let n = place; n < place + 5; n++) value = value * 85 + (n < text.length ? VALUES[text.charCodeAt(n)] : 84);
      view.setUint32((place / 5) * 4, value % 4294967296);
    }
    return bytes.subarray(0, Math.floor((text.length * 4) / 5));
  }

  async function inflate(id) {
    const stream = new Blob([bytesOf(byId(id).textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  }

  const words = inflate("words").then((text) => {
    const [codes, known] = JSON.parse(text);
    return new Map([...codes].map((code, n) => [code, known[n]]));
  });

  async function unpack(id) {
    const [text, known] = await Promise.all([inflate(id), words]);
    return JSON.parse(known.size ? text.replace(/[\u0080-\ud7ff]/g, (code) => known.get(code) ?? code) : text);
  }

  const kept = new Map();
  function block(id) {
    let found = kept.get(id);
    kept.delete(id);
    if (!found) found = unpack(id);
    kept.set(id, found);
    if (kept.size > KEPT_BLOCKS) kept.delete(kept.keys().next().value);
    return found;
  }

  async function stored(name, number) {
    const starts = index.stores[name];
    let low = 0, high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= number) low = middle;
      else high = middle - 1;
    }
    return (await block(`${name}-${low}`))[number - starts[low]];
  }

  const ask = async (name, number) => (number == null ? "" : stored(name, number));

  async function sampleOf(number) {
    const [id, question, gold, choices, context, answerType, contextId] = await stored("samples", number);
    return { id, question, gold, choices, context, answerType, contextId };
  }

  async function outputOf(row) {
    const [pred, raw, error, skeleton, playbook, latency, promptTokens, outputTokens, version, used] = await stored("outputs", row);
    return { pred, raw: raw === 0 ? pred : raw, error, skeleton, playbook, latency, promptTokens, outputTokens, version, used };
  }

  async function promptOf(sample, output) {
    if (output.skeleton == null) return "not stored: its shard is not published yet";
    const skeleton = await stored("skeletons", output.skeleton);
    if (skeleton.startsWith("\ue003")) return skeleton.slice(1);
    const texts = new Map([
      ["\ue000", await ask("contexts", sample.context)],
      ["\ue001", sample.question],
      ["\ue002", await ask("playbooks", output.playbook)],
      ...sample.choices.slice(0, 100).map((choice, n) => [String.fromCharCode(0xe010 + n), choice]),
    ]);
    return skeleton.replace(/[\ue000-\ue07f]/g, (mark) => texts.get(mark) ?? mark);
  }

  // ---- theme -------------------------------------------------------------------------------------------
  const themes = ["system", "light", "dark"];
  const themeButton = byId("theme");
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    const now = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % themes.length];
    if (now === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = now;
    themeButton.textContent = `Theme: ${now}`;
  });

  // ---- browser of samples --------------------------------------------------------------------------------
  const short = (model) => model.replace(/\/+$/, "").split("/").pop();
  const cells = index.cells.map((cell) => ({
    model: short(cell.model_id), quantization: cell.quantization, task: cell.task_name,
    mode: cell.mode + (cell.variant ? ` · ${cell.variant}` : "") + (cell.split === "adapt" ? " (adapt)" : ""),
    seed: String(cell.seed), adapt: cell.split === "adapt",
  }));
  const axes = ["task", "model", "quantization", "mode", "seed"];
  const varying = axes.filter((axis) => new Set(cells.map((cell) => cell[axis])).size > 1);
  const state = { outcome: "", epoch: "", search: "", page: 0 };
  let rows, bySample, matches = [], epochs = [], searched = null;

  function outcomeOf(row) {
    const flags = rows.flags[row];
    if (flags & FAILED) return "error";
    if (flags & ERROR) return "unparsed";
    return flags & CORRECT ? "correct" : "wrong";
  }

  function groupBySample() {
    bySample = [];
    rows.sample.forEach((sample, row) => (bySample[sample] ??= []).push(row));
  }

  function disagree(sample) {
    const scored = bySample[sample].filter((row) => !(rows.flags[row] & ADAPT));
    const right = scored.filter((row) => rows.flags[row] & CORRECT).length;
    return right > 0 && right < scored.length;
  }

  function labelOf(row, all) {
    const cell = cells[rows.cell[row]];
    const words = [cell.mode];
    if (all || varying.includes("model")) words.push(cell.model);
    if (all || varying.includes("quantization")) words.push(cell.quantization);
    if (varying.includes("seed")) words.push(`seed ${cell.seed}`);
    if (epochs.length > 1) words.push(`epoch ${rows.epoch[row]}${rows.flags[row] & SEEN ? ", seen" : ""}`);
    return words.join(" · ");
  }

  function chooser(label, name, options) {
    const select = element("select", { name }, ...options.map(([value, text]) => element("option", { value }, text)));
    return element("label", {}, label, select);
  }

  function buildFilters() {
    const form = byId("filters");
    for (const axis of varying) {
      const values = [...new Set(cells.map((cell) => cell[axis]))];
      form.append(chooser(axis, axis, [["", "all"], ...values.map((value) => [value, value])]));
    }
    if (epochs.length > 1) form.append(chooser("epoch", "epoch", [["", "all"], ...epochs.map((epoch) => [epoch, epoch])]));
    const outcomes = [["", "all"], ["correct", "correct"], ["wrong", "wrong (all)"], ["misread", "unparsed"], ["error", "error"], ["disagree", "modes disagree"]];
    form.append(chooser("outcome", "outcome", outcomes));
    const input = element("input", { type: "search", name: "search", placeholder: "in question, id, gold" });
    form.append(element("label", { class: "search" }, "search", input), element("button", { type: "reset" }, "Reset"));
    form.addEventListener("submit", (event) => event.preventDefault());
    let waiting;
    form.addEventListener("input", (event) => {
      clearTimeout(waiting);
      waiting = setTimeout(refresh, event.target.name === "search" ? 200 : 0);
    });
    form.addEventListener("reset", () => setTimeout(refresh));
    form.hidden = false;
  }

  async function searchSamples(words) {
    const found = new Set();
    const starts = index.stores.samples;
    for (let number = 0; number < starts.length; number++) {
      const values = await unpackOnce(`samples-${number}`);
      values.forEach(([id, question, gold], offset) => {
        if (`${id}\n${question}\n${gold}`.toLowerCase().includes(words)) found.add(starts[number] + offset);
      });
    }
    return found;
  }

  const whole = new Map(); // searching reads every block of samples: they stay
  const unpackOnce = async (id) => {
    if (!whole.has(id)) whole.set(id, await unpack(id));
    return whole.get(id);
  };

  let turn = 0;
  async function refresh() {
    const mine = ++turn;
    const form = byId("filters");
    const chosen = Object.fromEntries(new FormData(form));
    const words = (chosen.search ?? "").trim().toLowerCase();
    if (words) byId("count").textContent = "Searching…";
    searched = words ? await searchSamples(words) : null;
    if (mine !== turn) return;
    const wanted = cells.map((cell) => varying.every((axis) => !chosen[axis] || chosen[axis] === cell[axis]));
    const epoch = chosen.epoch ? Number(chosen.epoch) : null;
    matches = [];
    for (let row = 0; row < rows.sample.length; row++) {
      if (!wanted[rows.cell[row]] || (epoch !== null && rows.epoch[row] !== epoch)) continue;
      if (searched && !searched.has(rows.sample[row])) continue;
      if (passes(row, chosen.outcome)) matches.push(row);
    }
    state.page = 0;
    await showPage();
  }

  function passes(row, outcome) {
    const flags = rows.flags[row];
    if (outcome === "correct") return (flags & CORRECT) !== 0;
    if (outcome === "wrong") return (flags & CORRECT) === 0;
    if (outcome === "error") return (flags & FAILED) !== 0;
    if (outcome === "misread") return (flags & ERROR) !== 0 && (flags & FAILED) === 0;
    if (outcome === "disagree") return disagree(rows.sample[row]);
    return true;
  }

  async function showPage() {
    const pages = Math.max(1, Math.ceil(matches.length / PAGE));
    const shown = matches.slice(state.page * PAGE, (state.page + 1) * PAGE);
    const lines = await Promise.all(shown.map(async (row, place) => {
      const [sample, output] = await Promise.all([sampleOf(rows.sample[row]), outputOf(row)]);
      const open = element("button", { type: "button", "data-place": state.page * PAGE + place }, sample.id);
      const outcome = outcomeOf(row);
      return element("tr", {},
        element("td", {}, open),
        element("td", { class: "optional" }, cells[rows.cell[row]].task),
        element("td", {}, labelOf(row)),
        element("td", { class: "optional" }, element("bdi", { class: "clip" }, sample.question)),
        element("td", {}, element("bdi", { class: "clip" }, sample.gold)),
        element("td", {}, element("bdi", { class: "clip" }, output.pred ?? output.error ?? "")),
        element("td", {}, element("span", { class: `state ${outcome}` }, outcome)));
    }));
    const table = byId("list");
    table.tBodies[0].replaceChildren(...lines);
    table.hidden = false;
    const from = shown.length ? state.page * PAGE + 1 : 0;
    byId("count").textContent = `${matches.length.toLocaleString("en")} ${matches.length === 1 ? "row matches" : "rows match"}; ${from.toLocaleString("en")} to ${(from + Math.max(0, shown.length - 1)).toLocaleString("en")} shown.`;
    const bar = byId("pages");
    bar.hidden = pages < 2;
    bar.querySelector("span").textContent = `page ${(state.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    bar.querySelector('[data-step="-1"]').disabled = state.page === 0;
    bar.querySelector('[data-step="1"]').disabled = state.page >= pages - 1;
  }

  byId("pages").addEventListener("click", async (event) => {
    const step = Number(event.target.dataset.step);
    if (!step) return;
    state.page += step;
    await showPage();
    byId("list").scrollIntoView({ block: "start" });
  });

  // ---- one sample, all modes -------------------------------------------------------------------------------
  const dialog = byId("detail");
  let place = 0;

  byId("list").addEventListener("click", (event) => {
    if (event.target.dataset.place !== undefined) open(Number(event.target.dataset.place));
  });
  dialog.addEventListener("click", (event) => {
    if (event.target.dataset.close !== undefined) dialog.close();
    if (event.target.dataset.step) open(place + Number(event.target.dataset.step));
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "PRE") return;
    if (event.key === "ArrowLeft") open(place - 1);
    if (event.key === "ArrowRight") open(place + 1);
  });

  const section = (title, text) => [element("h3", {}, title), element("pre", { dir: "auto", tabindex: "0", "aria-label": title }, text)];

  async function open(number) {
    if (number < 0 || number >= matches.length) return;
    place = number;
    const here = matches[place];
    const sample = await sampleOf(rows.sample[here]);
    const context = sample.context == null ? null : await ask("contexts", sample.context);
    const cards = await Promise.all(bySample[rows.sample[here]].map((row) => card(row, sample, row === here)));
    const body = dialog.querySelector(".detail-body");
    byId("detail-title").textContent = `${cells[rows.cell[here]].task}: ${sample.id}`;
    body.replaceChildren(
      ...section("Question", sample.question),
      ...(context === null ? [] : section("Context", context)),
      ...(sample.choices.length ? section("Choices, in published order", sample.choices.map((choice, n) => `${String.fromCharCode(65 + n)}. ${choice}`).join("\n")) : []),
      ...section("Gold answer", sample.gold),
      element("h2", { class: "small" }, "Answers side by side"),
      element("div", { class: "answers" }, ...cards));
    dialog.querySelector('[data-step="-1"]').disabled = place === 0;
    dialog.querySelector('[data-step="1"]').disabled = place === matches.length - 1;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    byId("detail-title").focus();
  }

  async function card(row, sample, here) {
    const output = await outputOf(row);
    const outcome = outcomeOf(row);
    const prompt = element("details", {}, element("summary", {}, "Prompt"));
    prompt.addEventListener("toggle", async () => {
      if (prompt.open && prompt.childElementCount === 1) prompt.append(element("pre", { dir: "auto", tabindex: "0", "aria-label": "Prompt" }, await promptOf(sample, output)));
    });
    const facts = [
      output.latency == null ? null : `${output.latency.toLocaleString("en")} ms`,
      output.promptTokens == null ? null : `${output.promptTokens} prompt tokens`,
      output.outputTokens == null ? null : `${output.outputTokens} output tokens`,
      output.version == null ? null : `playbook version ${output.version}`,
      output.used?.length ? `bullets ${output.used.join(", ")}` : null,
    ].filter((fact) => fact !== null);
    return element("article", { class: `answer ${outcome}${here ? " here" : ""}` },
      element("h3", {}, labelOf(row, true)),
      element("span", { class: `state ${outcome}` }, outcome),
      ...section("Parsed answer", output.pred ?? "(nothing could be read)"),
      ...section("Raw output", output.raw ?? "(none)"),
      ...(output.error ? section("Error", output.error) : []),
      element("p", { class: "note" }, facts.join(" · ")),
      prompt);
  }

  // ---- playbooks ---------------------------------------------------------------------------------------
  const ID = 0, SECTION = 1, TEXT = 2, STATUS = 3, HELPFUL = 4, HARMFUL = 5;
  let book;

  function wordDifference(before, after) {
    const a = before.split(/(\s+)/), b = after.split(/(\s+)/);
    const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    const parts = [];
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { parts.push(a[i]); i++; j++; }
      else if (j < b.length && (i === a.length || longest[i][j + 1] >= longest[i + 1][j])) parts.push(element("ins", {}, b[j++]));
      else parts.push(element("del", {}, a[i++]));
    }
    return parts;
  }

  function bulletLine(kind, bullet, before) {
    const counts = before && (before[HELPFUL] !== bullet[HELPFUL] || before[HARMFUL] !== bullet[HARMFUL])
      ? `helpful ${before[HELPFUL]} → ${bullet[HELPFUL]}, harmful ${before[HARMFUL]} → ${bullet[HARMFUL]}`
      : `helpful ${bullet[HELPFUL]}, harmful ${bullet[HARMFUL]}`;
    const text = kind === "reworded" ? wordDifference(before[TEXT], bullet[TEXT]) : [bullet[TEXT]];
    const status = bullet[STATUS] === "active" ? "" : `, ${bullet[STATUS]}`;
    return element("li", { class: kind },
      element("span", { class: "what" }, kind === "same" ? bullet[ID] : `${kind}: ${bullet[ID]}`),
      ...text, element("small", {}, `${bullet[SECTION]}, ${counts}${status}`));
  }

  function showDifference() {
    const chosen = Object.fromEntries(new FormData(byId("versions")));
    const stateOf = (version) => new Map(book.versions[version].map((number) => [book.states[number][ID], book.states[number]]));
    const before = stateOf(chosen.older), after = stateOf(chosen.newer);
    const lines = [], count = { added: 0, removed: 0, reworded: 0 };
    for (const [id, bullet] of after) {
      const old = before.get(id);
      const kind = !old ? "added" : old[TEXT] !== bullet[TEXT] ? "reworded" : "same";
      if (kind !== "same") count[kind]++;
      if (kind !== "same" || chosen.unchanged) lines.push(bulletLine(kind, bullet, old));
    }
    for (const [id, bullet] of before) if (!after.has(id)) { count.removed++; lines.push(bulletLine("removed", bullet)); }
    byId("change").textContent = `Version ${book.numbers[chosen.older]} to ${book.numbers[chosen.newer]}: ${count.added} added, ${count.removed} removed, ${count.reworded} reworded; ${after.size} ${after.size === 1 ? "bullet" : "bullets"}.`;
    byId("difference").replaceChildren(element("ul", { class: "bullets" }, ...lines));
  }

  async function chooseBook(number) {
    book = await block(`book-${number}`);
    const form = byId("versions");
    const options = book.numbers.map((version, place) => [place, `version ${version}`]);
    const older = chooser("from", "older", options), newer = chooser("to", "newer", options);
    const unchanged = element("label", {}, "unchanged bullets too", element("input", { type: "checkbox", name: "unchanged", checked: true }));
    const books = chooser("playbook", "book", index.books.map((name, place) => [place, name]));
    form.replaceChildren(books, older, newer, unchanged);
    form.elements.book.value = number;
    form.elements.newer.value = options.length - 1;
    form.hidden = false;
    byId("last-versions").hidden = true;
    showDifference();
  }

  if (index.books.length) {
    byId("versions").addEventListener("submit", (event) => event.preventDefault());
    byId("versions").addEventListener("input", (event) => {
      if (event.target.name === "book") chooseBook(Number(event.target.value)).then(() => byId("versions").elements.book.focus());
      else showDifference();
    });
    chooseBook(index.grown);
  }

  // paper has no viewer: it gets the last versions
  addEventListener("beforeprint", () => { if (byId("last-versions")) byId("last-versions").hidden = false; });
  addEventListener("afterprint", () => { if (byId("last-versions")) byId("last-versions").hidden = true; });

  async function start() {
    rows = await unpack("rows");
    epochs = [...new Set(rows.epoch)].sort((a, b) => a - b);
    groupBySample();
    const heads = [["sample"], ["task", "optional"], ["mode"], ["question", "optional"], ["gold"], ["answer"], ["outcome"]];
    byId("list").tHead.rows[0].append(...heads.map(([name, kind]) => element("th", { scope: "col", class: kind ?? "" }, name)));
    buildFilters();
    await refresh();
    document.documentElement.dataset.ready = "yes";
  }
  start();
})();
