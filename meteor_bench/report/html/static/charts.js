// What each chart shows, as Vega-Lite.

const kept = (s) => (s.pruned ? `${s.label}, ${percent(s.ratio)} removed` : "unpruned");

function tradeOff(section, shown, cost, at, narrow) {
  const front = new Set(section.fronts[cost][at]);
  const rows = shown
    .filter((s) => s.costs[cost] != null && s.scores[at])
    .map((s) => {
      const score = s.scores[at];
      return {
        label: s.label,
        name: s.name,
        title: kept(s),
        cost: s.costs[cost],
        score: score.score,
        low: score.low ?? score.score, // a single image gives no interval
        high: score.high ?? score.score,
        ratio: s.ratio,
        front: front.has(s.name),
        interval: score.low == null ? "none" : `${score.low.toFixed(1)} to ${score.high.toFixed(1)}`,
      };
    });
  const { color, shape } = scales(shown);
  const x = {
    field: "cost",
    type: "quantitative",
    title: cost,
    scale: { zero: false, nice: true, padding: 14 },
    axis: { tickCount: narrow ? 4 : 7 },
  };
  const y = {
    field: "score",
    type: "quantitative",
    title: at === "average" ? "average score" : `${at}, score`,
    scale: { zero: false, nice: true },
    axis: { tickCount: 6 },
  };
  const tooltip = [
    { field: "title", title: "title" },
    { field: "score", title: "score", format: ".1f" },
    { field: "interval", title: "95 % interval" },
    { field: "cost", title: cost, format: ",.4~g" },
  ];
  // Of its own data, and only where there are any: Vega complains about an axis over nothing.
  const best = rows.filter((row) => row.front);
  const onFront = (mark, encoding) =>
    best.length ? [{ data: { values: best }, mark, encoding: { x, y, ...encoding } }] : [];
  const label = (paint) =>
    onFront(
      { type: "text", align: "left", dx: 11, dy: 14, fontSize: 11, strokeJoin: "round", ...paint },
      { text: { field: "name" } },
    );
  const dashed = { interpolate: "step-after", color: colour("faint"), strokeDash: [5, 4], strokeWidth: 1.5 };
  return {
    data: { values: rows },
    layer: [
      ...onFront({ type: "line", ...dashed }, { order: { field: "cost" } }),
      { mark: { type: "line", strokeWidth: 1.5, opacity: 0.55 }, encoding: { x, y, color, order: { field: "ratio" } } },
      {
        mark: { type: "rule", strokeWidth: 1.5, opacity: 0.6 },
        encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color },
      },
      ...onFront({ type: "point", size: 260, filled: false, stroke: colour("ink"), strokeWidth: 1.3 }, {}),
      { mark: { type: "point", size: 95, filled: true, opacity: 1 }, encoding: { x, y, color, shape, tooltip } },
      ...(narrow ? [] : label({ stroke: colour("card"), strokeWidth: 4, color: colour("card") })),
      ...(narrow ? [] : label({ color: colour("soft") })),
    ],
  };
}

function bars(section, shown, ratio, narrow) {
  const alone = !section.settings.some((s) => s.pruned);
  const methods = shown.filter((s) => alone || (s.pruned && s.ratio === ratio));
  const rows = methods.flatMap((s) =>
    section.tasks
      .filter((t) => s.scores[t.task])
      .map((t) => {
        const { score, low = score, high = score, unpruned, n } = s.scores[t.task];
        return { label: s.label, task: t.short, title: `${t.task}: ${s.label}`, score, low, high, unpruned, n };
      }),
  );
  const { color } = scales(methods.length ? methods : shown);
  const beside = shown.some((s) => !s.pruned);
  const step = 11;
  const y = {
    field: "task",
    type: "nominal",
    sort: section.tasks.map((t) => t.short),
    title: null,
    axis: { labelFontSize: 12.5 },
  };
  const offset = { field: "label", sort: methods.map((s) => s.label), bandPosition: 0.5 };
  const x = {
    field: "score",
    type: "quantitative",
    scale: { domain: [0, 100] },
    title: "score",
    axis: { tickCount: narrow ? 5 : 10 },
  };
  const numbers = [
    { field: "score", format: ".1f" },
    { field: "low", title: "95 % from", format: ".1f" },
    { field: "high", title: "to", format: ".1f" },
    { field: "unpruned", format: ".1f" },
    { field: "n", title: "questions" },
  ];
  return {
    data: { values: rows },
    encoding: { y },
    layer: [
      {
        mark: { type: "bar", cornerRadiusEnd: 2 },
        encoding: {
          x,
          yOffset: { ...offset, bandPosition: 0 },
          color,
          tooltip: [{ field: "title", title: "title" }, ...numbers],
        },
      },
      {
        mark: { type: "rule", color: colour("ink"), opacity: 0.65, strokeWidth: 1.2 },
        encoding: { x: { ...x, field: "low" }, x2: { field: "high" }, yOffset: offset },
      },
      {
        transform: [
          { filter: beside ? "isValid(datum.unpruned)" : "false" },
          { aggregate: [{ op: "mean", field: "unpruned", as: "unpruned" }], groupby: ["task"] },
        ],
        mark: { type: "tick", thickness: 2, color: colour("ink"), size: step * methods.length + 4 },
        encoding: {
          x: { ...x, field: "unpruned" },
          tooltip: [{ field: "task" }, { field: "unpruned", format: ".1f" }],
        },
      },
    ],
    height: section.tasks.length * (step * methods.length + 16),
    config: {
      ...look(),
      scale: {
        bandWithNestedOffsetPaddingInner: 16 / (step * methods.length + 16),
        bandWithNestedOffsetPaddingOuter: 0.1,
        offsetBandPaddingInner: 0.12,
      },
    },
  };
}

function flow(section, shown, ratio, narrow) {
  const settings = shown.filter((s) => !s.pruned || s.ratio === ratio);
  const rows = settings.flatMap((s) =>
    section.stages
      .filter((stage) => s.flow[stage] != null)
      .map((stage, at) => ({ label: s.label, stage, at, tokens: s.flow[stage], title: kept(s), pruned: s.pruned })),
  );
  const { color, shape } = scales(settings);
  const x = {
    field: "stage",
    type: "ordinal",
    sort: section.stages,
    title: null,
    scale: { padding: 0.2 },
    axis: {
      labelAngle: 0,
      labelLimit: narrow ? 90 : 200,
      labelExpr: narrow ? "split(datum.label, ' ')" : "datum.label",
      grid: true,
      labelLineHeight: 14,
    },
  };
  const y = {
    field: "tokens",
    type: "quantitative",
    title: "visual tokens",
    scale: { zero: true, nice: true },
    axis: { tickCount: 6 },
  };
  return {
    data: { values: rows },
    encoding: { x, y, color },
    layer: [
      {
        mark: { type: "line", strokeWidth: 2.2, opacity: 0.85 },
        encoding: {
          detail: { field: "label" },
          order: { field: "at" },
          strokeDash: { condition: { test: "!datum.pruned", value: [6, 4] }, value: [1, 0] },
        },
      },
      {
        mark: { type: "point", filled: true, size: 80, opacity: 1 },
        encoding: {
          shape,
          tooltip: [{ field: "title", title: "title" }, { field: "stage" }, { field: "tokens", format: ",.1f" }],
        },
      },
    ],
  };
}

function times(section, shown, ratio, narrow) {
  const settings = shown.filter((s) => (!s.pruned || s.ratio === ratio) && s.parts);
  const names = section.parts;
  const rows = settings.flatMap((s) =>
    names
      .filter((n) => s.parts[n] != null)
      .map((stage) => ({ label: s.label, stage, ms: s.parts[stage], at: names.indexOf(stage), title: kept(s) })),
  );
  return {
    data: { values: rows },
    mark: { type: "bar", height: { band: 0.7 }, stroke: colour("card"), strokeWidth: 1 },
    encoding: {
      y: {
        field: "label",
        type: "nominal",
        sort: settings.map((s) => s.label),
        title: null,
        axis: { labelFontSize: 12, labelLimit: narrow ? 120 : 220 },
      },
      x: {
        field: "ms",
        type: "quantitative",
        title: "ms (sum of medians)",
        stack: "zero",
        axis: { tickCount: narrow ? 4 : 8 },
      },
      color: {
        field: "stage",
        type: "nominal",
        sort: names,
        scale: { domain: names, range: names.map((_, i) => colour(`s${i % 5}`)) },
        legend: { orient: "top", title: null, direction: "horizontal", columns: narrow ? 3 : 0 },
      },
      order: { field: "at" },
      tooltip: [{ field: "title", title: "title" }, { field: "stage" }, { field: "ms", format: ".2f" }],
    },
    height: 34 * settings.length,
  };
}
