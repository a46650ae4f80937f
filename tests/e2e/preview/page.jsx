// Draws one dashboard from its committed JSON and recorded answers, with the components Grafana publishes.
import {
  applyFieldOverrides,
  createTheme,
  dateTime,
  EventBusSrv,
  FieldConfigOptionsRegistry,
  FieldType,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  identityOverrideProcessor,
  LoadingState,
  ThemeContext,
  toDataFrame,
} from "@grafana/data";
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PanelContextProvider, Table, TimeSeries, VizRepeater } from "@grafana/ui";
import { Component } from "react";
import { createRoot } from "react-dom/client";
import "uplot/dist/uPlot.min.css";

const WIDTH = 1600;
const ROW = 38; // pixels of a row of the grid, as Grafana has it: 30 and a gap of 8
const GAP = 8;
const { board, recorded } = window.preview;
const theme = createTheme({ colors: { mode: window.preview.mode } });
const zone = "utc";
const range = { from: dateTime(recorded.from_ms), to: dateTime(recorded.to_ms) };
const timeRange = { ...range, raw: range };
const unchanged = (text) => text;
const bus = new EventBusSrv();
const OURS = "The type of this panel is not in Grafana's packages; drawn as ";

// Grafana's editors register these when it starts; here they are those that a panel sets.
function registry(config) {
  const rules = config.overrides.flatMap((rule) => rule.properties.map((property) => property.id));
  const custom = Object.keys(config.defaults.custom ?? {});
  const found = new FieldConfigOptionsRegistry();
  const known = new Set([...Object.keys(config.defaults), "unit", "links", "decimals", ...rules]);
  known.delete("custom");
  const item = (id, path, isCustom) => ({
    id, path, isCustom, name: id, settings: {}, shouldApply: () => true,
    process: id === "links" ? (value) => value : identityOverrideProcessor, editor: () => null, override: () => null,
  });
  const items = [...[...known].map((id) => item(id, id, false)), ...custom.map((id) => item(`custom.${id}`, id, true))];
  items.forEach((each) => found.register(each));
  return found;
}

function named(labels, legend) {
  const shown = Object.entries(labels).filter(([name]) => name !== "__name__");
  if (legend && legend !== "__auto") return legend.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name) => labels[name] ?? "");
  return shown.length ? `{${shown.map(([name, value]) => `${name}="${value}"`).join(", ")}}` : "Value";
}

function series(target, answer) {
  return answer.map(({ metric, values }) =>
    toDataFrame({
      refId: target.refId,
      fields: [
        { name: "Time", type: FieldType.time, values: values.map(([at]) => at * 1000) },
        {
          name: "Value", type: FieldType.number, labels: metric,
          values: values.map(([, value]) => Number(value)),
          config: { displayNameFromDS: named(metric, target.legendFormat) },
        },
      ],
    })
  );
}

function instant(target, answer) {
  const names = [...new Set(answer.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const label = (name) => ({ name, type: FieldType.string, values: answer.map(({ metric }) => metric[name] ?? "") });
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: "Time", type: FieldType.time, values: answer.map(({ values }) => values[0][0] * 1000) },
      ...names.map(label),
      { name: "Value", type: FieldType.number, values: answer.map(({ values }) => Number(values[0][1])) },
    ],
  });
}

// A classic histogram's buckets hold all that was as fast or faster; a cell holds what is in it alone.
function buckets(target, answer) {
  const sorted = [...answer].sort((a, b) => Number(a.metric.le) - Number(b.metric.le));
  const at = (one) => new Map(one ? one.values : []);
  return series(target, sorted.map(({ metric, values }, n) => {
    const below = at(sorted[n - 1]);
    return { metric, values: values.map(([when, value]) => [when, value - (below.get(when) ?? 0)]) };
  }).filter(({ values }) => values.some(([, value]) => value > 0)));
}

// Of the transformations, the one that leaves columns out; a state timeline's is not for rows.
function shown(panel, frame) {
  const left = (panel.transformations ?? []).find(({ id }) => id === "organize")?.options.excludeByName ?? {};
  return { ...frame, fields: frame.fields.filter(({ name }) => !left[name]) };
}

function framesOf(panel) {
  const answers = recorded.boards[board.uid][panel.id];
  return panel.targets.flatMap((target) => {
    const answer = answers[target.refId];
    if (target.rawSql) return answer.fields.length ? [toDataFrame({ refId: target.refId, fields: answer.fields })] : [];
    if (target.format === "heatmap") return buckets(target, answer);
    return target.format === "table" ? [instant(target, answer)] : series(target, answer);
  });
}

function Figures({ panel, frames, width, height }) {
  const { options, fieldConfig } = panel;
  const values = () => getFieldDisplayValues({
    fieldConfig, reduceOptions: options.reduceOptions, replaceVariables: unchanged, theme, data: frames, timeZone: zone,
  });
  const bar = panel.type === "bargauge";
  const value = ({ value, width, height, count, alignmentFactors, orientation }) => bar
    ? <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
        {...{ width, height, orientation, theme, alignmentFactors }} displayMode={options.displayMode} itemSpacing={8} lcdCellWidth={12}
        showUnfilled={options.showUnfilled} valueDisplayMode={options.valueMode} />
    : <BigValue value={value.display} {...{ width, height, count, alignmentFactors, theme }} colorMode={options.colorMode}
        graphMode={options.graphMode} justifyMode={options.justifyMode} textMode={options.textMode} wideLayout={options.wideLayout} />;
  return <VizRepeater getValues={values} getAlignmentFactors={getDisplayValueAlignmentFactors} renderValue={value} itemSpacing={8}
    source={frames} autoGrid renderCounter={1} {...{ width, height }} orientation={options.orientation} />;
}

function Lines({ panel, frames, width, height }) {
  const legend = panel.type === "timeseries" ? panel.options.legend : { showLegend: true, displayMode: "list", placement: "right", calcs: [] };
  return <TimeSeries frames={frames} structureRev={1} timeRange={timeRange} timeZone={zone} {...{ width, height, legend }}
    options={panel.options} />;
}

function Rows({ frames, width, height }) {
  return <Table data={frames[0]} {...{ width, height }} timeRange={timeRange} enableSharedCrosshair={false} />;
}

const DRAWN = { timeseries: Lines, stat: Figures, bargauge: Figures, table: Rows, heatmap: Lines, "state-timeline": Rows };
const INSTEAD = { heatmap: "stacked bars.", "state-timeline": "its rows." };

function Inside(props) {
  const { panel } = props;
  const fieldConfig = panel.type === "heatmap"
    ? { defaults: { unit: "none", color: { mode: "palette-classic" }, custom: { drawStyle: "bars", fillOpacity: 70, stacking: { mode: "normal", group: "A" } } }, overrides: [] }
    : panel.type === "timeseries"
      ? { ...panel.fieldConfig, defaults: { color: { mode: "palette-classic" }, ...panel.fieldConfig.defaults } }
      : panel.fieldConfig;
  const frames = applyFieldOverrides({
    data: framesOf(panel).map((frame) => shown(panel, frame)), fieldConfig, replaceVariables: unchanged, theme, timeZone: zone, fieldConfigRegistry: registry(fieldConfig),
  });
  const Drawn = DRAWN[panel.type];
  if (!frames.length && Drawn !== Figures) return <div style={{ padding: 8 }}>No data</div>;
  return <Drawn {...props} frames={frames} />;
}

class Kept extends Component {
  state = { error: null };
  static getDerivedStateFromError = (error) => ({ error });
  componentDidCatch(error) { console.error(`undrawn: ${this.props.panel.title}: ${error.stack}`); }
  render() { return this.state.error ? <pre>{String(this.state.error)}</pre> : this.props.children; }
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: "absolute", left: (x * WIDTH) / 24, top: y * ROW };
  if (panel.type === "row") return <h4 style={{ ...place, lineHeight: "30px" }}>{panel.title}</h4>;
  const width = (w * WIDTH) / 24 - GAP;
  const description = INSTEAD[panel.type] ? `${panel.description} ${OURS}${INSTEAD[panel.type]}` : panel.description;
  const title = INSTEAD[panel.type] ? `${panel.title} (${panel.type}: here as ${INSTEAD[panel.type].slice(0, -1)})` : panel.title;
  return <div style={place}>
    <PanelChrome {...{ title, description, width }} height={h * ROW - GAP} loadingState={LoadingState.Done}>
      {(width, height) => <Kept panel={panel}><Inside {...{ panel, width, height }} /></Kept>}
    </PanelChrome>
  </div>;
}

const context = { eventsScope: "preview", eventBus: bus, sync: () => 0 };
createRoot(document.getElementById("root")).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PanelContextProvider value={context}>
      <h3 style={{ position: "absolute", top: -44 }}>{board.title}</h3>
      {board.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
    </PanelContextProvider>
  </ThemeContext.Provider>
);
