// Charts on the page: how they look, and when they are drawn again.

const SHAPES = [
  "circle",
  "square",
  "triangle-up",
  "diamond",
  "cross",
  "triangle-down",
  "triangle-right",
  "triangle-left",
];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const percent = (ratio) => `${+(100 * ratio).toFixed(1)} %`;

/** Fonts and colours of the page. */
function look() {
  const [ink, soft, line] = ["ink", "soft", "line"].map(colour);
  const font = colour("sans");
  return {
    background: null,
    font,
    view: { stroke: null },
    axis: {
      labelColor: soft,
      titleColor: soft,
      labelFontSize: 12,
      titleFontSize: 12,
      titleFontWeight: 500,
      gridColor: line,
      domainColor: line,
      tickColor: line,
      titlePadding: 10,
      labelPadding: 6,
      labelLimit: 220,
    },
    axisY: { domain: false, ticks: false },
    text: { color: ink, font },
    legend: { labelColor: soft, titleColor: soft, labelFontSize: 12, symbolType: "square" },
  };
}

const drawing = new WeakMap(); // node -> what is drawn there, or will be

/** Draw, after whatever is being drawn there; nothing to show is said in words. */
function render(node, spec, height) {
  const drawn = (drawing.get(node) ?? Promise.resolve(null)).then(async (before) => {
    before?.finalize();
    node.replaceChildren();
    if (!spec.data.values.length) {
      node.append(el("p", { class: "soft small" }, "Nothing to show: no method is chosen, or none was measured here."));
      return null;
    }
    return vegaEmbed(
      node,
      {
        $schema: "https://vega.github.io/schema/vega-lite/v6.json",
        width: "container",
        ...(height && { height }),
        autosize: { type: "fit-x", contains: "padding" },
        config: look(),
        ...spec,
      },
      { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { disableDefaultStyle: true } },
    );
  });
  drawing.set(node, drawn);
  drawn.then(() => (node.dataset.drawn = Number(node.dataset.drawn || 0) + 1));
}

/** One colour and shape for each method, whatever is shown. */
function scales(shown) {
  const named = [...new Map(shown.map((s) => [s.label, s])).values()];
  return {
    color: {
      field: "label",
      type: "nominal",
      legend: null,
      scale: { domain: named.map((s) => s.label), range: named.map((s) => colour(s.colour)) },
    },
    shape: {
      field: "label",
      type: "nominal",
      legend: null,
      scale: { domain: named.map((s) => s.label), range: named.map((s) => SHAPES[s.shape % SHAPES.length]) },
    },
  };
}

/** All charts of a section, drawn again when anything they depend on changes. */
function plot(section, root) {
  const state = { hidden: hiddenAtFirst(section), ratio: section.ratio, costs: section.shown.slice(), at: "average" };
  const draw = () => {
    if (root.hidden) return;
    const narrow = root.clientWidth < 640;
    const shown = section.settings.filter((s) => !state.hidden.has(s.label));
    const jobs = [
      ...state.costs.map((cost, i) => [
        `trade-${i}`,
        () => tradeOff(section, shown, cost, state.at, narrow),
        narrow ? 300 : 360,
      ]),
      ["bars", () => bars(section, shown, state.ratio, narrow)],
      ["flow", () => flow(section, shown, state.ratio, narrow), narrow ? 280 : 320],
      ["times", () => times(section, shown, state.ratio, narrow)],
    ];
    for (const [name, spec, height] of jobs) {
      const node = $(`[data-plot="${name}"]`, root);
      if (node) render(node, spec(), height);
    }
  };
  wireLegends(section, root, state, draw);
  for (const group of $$("[data-ratios]", root)) {
    for (const button of $$("button", group)) {
      button.addEventListener("click", () => {
        state.ratio = Number(button.value);
        for (const other of $$("[data-ratios]", root))
          press(
            other,
            $$("button", other).find((b) => b.value === button.value),
          );
        draw();
      });
    }
  }
  for (const select of $$("select[data-cost]", root)) {
    select.addEventListener("change", () => {
      state.costs[Number(select.dataset.cost)] = select.value;
      draw();
    });
  }
  for (const select of $$("select[data-score]", root)) {
    select.addEventListener("change", () => {
      state.at = select.value;
      draw();
    });
  }
  repaint.add(draw);
  let width = root.clientWidth;
  new ResizeObserver(() => {
    const crossed = width < 640 !== root.clientWidth < 640;
    width = root.clientWidth;
    if (crossed) draw(); // smaller changes are followed by the charts themselves
  }).observe(root);
  draw();
}

/** With many methods the charts start with some of them. */
function hiddenAtFirst(section) {
  return new Set(section.settings.map((s) => s.label).filter((label) => !section.first.includes(label)));
}

function wireLegends(section, root, state, draw) {
  const named = [...new Map(section.settings.map((s) => [s.label, s])).values()];
  const refresh = () => {
    for (const chip of $$(".chip", root)) chip.setAttribute("aria-pressed", !state.hidden.has(chip.value));
    for (const all of $$(".all", root))
      all.textContent = state.hidden.size ? `show all ${named.length}` : `show ${section.first.length}`;
    draw();
  };
  for (const legend of $$("[data-legend]", root)) {
    legend.append(
      ...named.map((s) =>
        el(
          "button",
          {
            class: "chip",
            type: "button",
            "aria-pressed": String(!state.hidden.has(s.label)),
            value: s.label,
            on: {
              click: () => {
                if (!state.hidden.delete(s.label)) state.hidden.add(s.label);
                refresh();
              },
            },
          },
          el("span", { class: "dot", "--dot": `var(--${s.colour})` }),
          s.label,
        ),
      ),
    );
    if (section.first.length === named.length) continue;
    const toggle = () => {
      state.hidden = state.hidden.size ? new Set() : hiddenAtFirst(section);
      refresh();
    };
    legend.append(el("button", { class: "all", type: "button", on: { click: toggle } }, `show all ${named.length}`));
  }
}
