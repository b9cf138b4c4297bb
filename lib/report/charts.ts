/// <reference lib="dom" />
// Runs in the reader's browser: report.ts puts the text of `drawCharts` into the page, beside uPlot. It must therefore
// not use anything from outside its own body.

type Columns = (number | null | undefined)[][];

/** A drawn chart, as far as uPlot is used here. */
export interface Plot {
  setData(data: Columns): void;
  setSize(size: { width: number; height: number }): void;
  destroy(): void;
}

/** What uPlot's constructor is here. */
export type UPlot = new (options: object, data: Columns, parent: Element) => Plot;

/** Drawn charts by id, with what their lines are. */
export type Plots = Map<string, { plot: Plot; lines: string }>;

export interface ChartSeries {
  label: string;
  step: number[];
  value: number[];
  color: string;
  /** Drawn dashed, without points: a line to beat. */
  dashed?: boolean;
  /** Drawn faint: every single step. */
  faint?: boolean;
  points?: boolean;
  /** Points only. */
  scatter?: boolean;
}

export interface Chart {
  id: string;
  title: string;
  unit: string;
  /** What is along x. Default: step. */
  x?: string;
  series: ChartSeries[];
}

/**
 * Draws every chart into the element of its id.
 *
 * @param plots Those drawn before: a chart with the same lines only gets its new points.
 */
export function drawCharts(charts: Chart[], uPlot: UPlot, plots: Plots = new Map()): void {
  const css = getComputedStyle(document.documentElement);
  const ink = css.getPropertyValue('--ink').trim();
  const rule = css.getPropertyValue('--rule').trim();
  for (const chart of charts) {
    const parent = document.getElementById(chart.id);
    if (!parent) continue;
    const steps = [...new Set(chart.series.flatMap((series) => series.step))].sort((a, b) => a - b);
    const place = new Map(steps.map((step, i) => [step, i]));
    const columns = chart.series.map((series) => {
      // undefined: no point here, the line goes on; null would break it.
      const column = new Array<number | undefined>(steps.length).fill(undefined);
      series.step.forEach((step, i) => (column[place.get(step)!] = series.value[i]));
      return column;
    });
    const lines = chart.series.map((series) => series.label).join();
    const drawn = plots.get(chart.id);
    if (drawn?.lines === lines) {
      drawn.plot.setData([steps, ...columns]);
      continue;
    }
    drawn?.plot.destroy();
    const axis = { stroke: ink, grid: { stroke: rule, width: 1 }, ticks: { stroke: rule, width: 1 } };
    const plot = new uPlot(
      {
        title: chart.title,
        width: Math.max(280, parent.clientWidth),
        height: 260,
        scales: { x: { time: false } },
        axes: [
          { ...axis, label: chart.x ?? 'step', labelSize: 22 },
          { ...axis, label: chart.unit, labelSize: 22, size: 66 },
        ],
        series: [
          { label: chart.x ?? 'step' },
          ...chart.series.map((series) => ({
            label: series.label,
            stroke: series.color,
            width: series.faint ? 1 : 2,
            alpha: series.faint ? 0.35 : 1,
            dash: series.dashed ? [6, 5] : undefined,
            points: { show: series.points === true || series.scatter === true, size: series.scatter ? 4 : 6 },
            paths: series.scatter ? () => null : undefined,
            value: (_: unknown, value: number | null | undefined) => (value == null ? '–' : value.toFixed(3)),
          })),
        ],
      },
      [steps, ...columns],
      parent,
    );
    plots.set(chart.id, { plot, lines });
  }
}
