// The questions of a section: filters, a page of cards, and the kept patches of those that have pictures.

const AT_ONCE = 12;

function browse(section, root) {
  const part = $("[data-questions]", root);
  if (!part || !section.questions) return;
  const all = section.questions;
  const pictures = new Map(section.pictures.map((p) => [`${p.task}/${p.doc}`, p]));
  const form = $("form", part);
  const list = $(".cards", part);
  const more = $(".more", part);
  let found = [];
  let shown = 0;

  const chosen = () => Number(form.elements.setting.value);
  const matches = (i) => {
    const { task, change, text, pictured } = form.elements;
    const other = all.score[chosen()][i];
    const before = all.score[0][i];
    if (task.value && all.task[i] !== task.value) return false;
    if (other == null) return false;
    const flips = {
      all: true,
      flipped: before != null && before !== other,
      lost: before != null && other < before,
      gained: before != null && other > before,
      wrong: other < 1,
    };
    if (!flips[change.value]) return false;
    if (pictured?.checked && !pictures.has(`${all.task[i]}/${all.doc[i]}`)) return false;
    const wanted = text.value.trim().toLowerCase();
    if (!wanted) return true;
    const said = [all.question[i], all.target[i], ...all.answer.map((column) => column[i])];
    return said.some((at) => at != null && all.texts[at].toLowerCase().includes(wanted));
  };
  const next = () => {
    const upTo = Math.min(found.length, shown + AT_ONCE);
    for (; shown < upTo; shown++)
      list.append(card(section, found[shown], chosen(), pictures, form.elements.tower?.value || ""));
    more.hidden = shown >= found.length;
  };
  const filter = () => {
    found = all.task.map((_, i) => i).filter(matches);
    // Those with pictures first: they are why most people come here.
    const has = (i) => pictures.has(`${all.task[i]}/${all.doc[i]}`);
    found.sort((a, b) => has(b) - has(a) || a - b);
    shown = 0;
    list.replaceChildren();
    const setting = section.settings[chosen()];
    $(".count", part).textContent =
      `${found.length.toLocaleString("en")} of ${all.task.length.toLocaleString("en")} questions, ${setting.name} beside ${section.settings[0].name}`;
    next();
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", next);
  repaint.add(() => {
    for (const canvas of $$("canvas", list)) canvas.paint();
  });
  filter();
}

function answerOf(section, i, at) {
  const all = section.questions;
  const score = all.score[at][i];
  const setting = section.settings[at];
  if (score == null) return null;
  const mark = score >= 1 ? "✓" : score <= 0 ? "✗" : score.toFixed(2);
  const tokens = all.tokens[all.counts[at]][i];
  return el(
    "div",
    { class: `answer ${score >= 1 ? "right" : "wrong"}` },
    el("span", { class: "mark", "aria-label": score >= 1 ? "right" : score <= 0 ? "wrong" : `score ${mark}` }, mark),
    el("span", { class: "by" }, `${setting.name}:`),
    el("span", { class: "said" }, all.texts[all.answer[at][i]] || "(nothing)"),
    tokens == null ? null : el("span", { class: "used num" }, `${tokens} visual tokens left`),
  );
}

function card(section, i, at, pictures, tower) {
  const all = section.questions;
  const picture = pictures.get(`${all.task[i]}/${all.doc[i]}`);
  const rest = section.settings
    .map((_, other) => other)
    .filter((other) => other !== 0 && other !== at && all.score[other][i] != null);
  const answers = (indices) => el("div", { class: "answers" }, ...indices.map((other) => answerOf(section, i, other)));
  return el(
    "li",
    { class: "q" },
    el(
      "div",
      { class: "top" },
      picture
        ? el(
            "div",
            { class: "thumb", "--across": Math.ceil(Math.sqrt(picture.frames.length)) },
            ...picture.frames.slice(0, 9).map((src) => el("img", { src, alt: "" })),
          )
        : null,
      el(
        "div",
        { class: "text" },
        el("div", { class: "where" }, `${all.task[i]}/${all.doc[i]}`),
        el("div", { class: "ask" }, all.texts[all.question[i]]),
        el("div", { class: "ref" }, "reference answer: ", el("b", {}, all.texts[all.target[i]])),
      ),
    ),
    answers(at === 0 ? [0] : [0, at]),
    picture?.settings[at] ? film(section, i, at, picture, tower) : null,
    rest.length
      ? later(`${rest.length} other settings`, () => [
          answers(rest),
          el(
            "div",
            { class: "beside" },
            ...rest.filter((other) => picture?.settings[other]).map((other) => film(section, i, other, picture, tower)),
          ),
        ])
      : null,
  );
}

/** A part that is made when it is opened. */
function later(title, make) {
  const node = el("details", {}, el("summary", {}, title));
  node.addEventListener("toggle", () => {
    if (node.open && node.childElementCount === 1) node.append(el("div", { class: "film" }, ...make()));
  });
  return node;
}

function film(section, i, at, picture, tower) {
  const { frames } = picture;
  const setting = section.settings[at];
  const shown = picture.settings[at];
  const recorded = section.questions.texts[section.questions.answer[at][i]];
  const stages = shown.points
    .map((point) => ({ ...point, panels: point.panels.filter((p) => !tower || p.tower === tower) }))
    .filter((point) => point.panels.length);
  return el(
    "div",
    { class: "film" },
    el(
      "h4",
      {},
      setting.name,
      el(
        "span",
        { class: "soft" },
        shown.answer === recorded
          ? ""
          : `, answered “${shown.answer}” when drawn (another machine or version than the record's)`,
      ),
    ),
    el(
      "div",
      { class: "strip", tabindex: "0" },
      ...stages.map((point) =>
        el(
          "div",
          { class: "stage" },
          el("div", { class: "name" }, point.title),
          el(
            "div",
            { class: "panels" },
            ...point.panels.map((panel) =>
              el(
                "figure",
                { class: "panel" },
                patches(panel, frames),
                el(
                  "figcaption",
                  { class: "num" },
                  el("b", {}, panel.title),
                  `${panel.kept} of ${panel.grid[0] * panel.grid[1] * panel.grid[2]} kept`,
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
