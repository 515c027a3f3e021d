/**
 * Line charts on logarithmic axes, one above the other, as an SVG. Written here because that is all there is to
 * draw: libraries that plot without a browser bring dozens of packages with them.
 */
import type { Experiment, Point } from './measure.ts';
import { xText } from './report.ts';

const WIDTH = 860;
const PANEL = { top: 46, left: 70, width: 540, height: 220, pitch: 320 } as const;
/** Told apart by people who see colours otherwise too (Okabe and Ito). */
const COLORS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'] as const;

/** From a value to a place, both ends of a decade apart by the same distance. */
interface Axis {
  low: number;
  high: number;
  start: number;
  end: number;
}

function place({ low, high, start, end }: Axis, value: number): number {
  if (low === high) return (start + end) / 2;
  return start + ((Math.log10(value) - low) / (high - low)) * (end - start);
}

function axes(points: readonly Point[], top: number): { x: Axis; y: Axis } {
  const xs = points.map(({ x }) => Math.log10(x));
  const ys = points.flatMap(({ medianUs, p99Us }) => [medianUs.median, p99Us.median]);
  const { left, width, height } = PANEL;
  const [xLow, xHigh] = [Math.min(...xs), Math.max(...xs)];
  const yLow = Math.floor(Math.log10(Math.min(...ys)));
  const yHigh = Math.max(yLow + 1, Math.ceil(Math.log10(Math.max(...ys))));
  return {
    x: { low: xLow, high: xHigh, start: left, end: left + width },
    y: { low: yLow, high: yHigh, start: top + height, end: top },
  };
}

function text(x: number, y: number, words: string, more = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${words}</text>`;
}

function line(points: readonly [number, number][], more: string): string {
  const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ');
  return `<polyline points="${path}" fill="none" ${more}/>`;
}

function grid({ title, unit, curves }: Experiment, x: Axis, y: Axis): string[] {
  const out = [text(x.start, y.end - 14, `${title}: µs per operation`, 'font-weight="bold"')];
  for (let power = y.low; power <= y.high; power++) {
    const at = place(y, 10 ** power);
    out.push(
      line(
        [
          [x.start, at],
          [x.end, at],
        ],
        'stroke="#ddd"',
      ),
    );
    out.push(text(x.start - 8, at + 4, `${10 ** power}`, 'text-anchor="end"'));
  }
  for (const { x: value } of curves[0]?.points ?? []) {
    const at = place(x, value);
    out.push(
      line(
        [
          [at, y.start],
          [at, y.start + 5],
        ],
        'stroke="#333"',
      ),
    );
    out.push(text(at, y.start + 20, xText(value, unit), 'text-anchor="middle"'));
  }
  return out;
}

function panel(experiment: Experiment, top: number): string[] {
  const { x, y } = axes(
    experiment.curves.flatMap(({ points }) => points),
    top,
  );
  const out = grid(experiment, x, y);
  for (const [index, { operation, points }] of experiment.curves.entries()) {
    const color = COLORS[index % COLORS.length];
    const median = points.map((p): [number, number] => [
      place(x, p.x),
      place(y, p.medianUs.median),
    ]);
    const p99 = points.map((p): [number, number] => [place(x, p.x), place(y, p.p99Us.median)]);
    out.push(line(median, `stroke="${color}" stroke-width="2"`));
    out.push(line(p99, `stroke="${color}" stroke-dasharray="2 4"`));
    for (const [cx, cy] of median) {
      out.push(`<circle cx="${cx.toFixed(1)}" cy="${cy.toFixed(1)}" r="3" fill="${color}"/>`);
    }
    const row = top + 12 + index * 20;
    out.push(
      line(
        [
          [x.end + 30, row - 4],
          [x.end + 54, row - 4],
        ],
        `stroke="${color}" stroke-width="3"`,
      ),
    );
    out.push(text(x.end + 62, row, operation));
  }
  return out;
}

/** The chart; solid lines are medians, dotted ones 99th percentiles. */
export function chart(experiments: readonly Experiment[]): string {
  const height = experiments.length * PANEL.pitch + 20;
  const panels = experiments.flatMap((each, index) => panel(each, PANEL.top + index * PANEL.pitch));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...panels,
    text(PANEL.left, height - 12, 'Solid: median. Dotted: 99th percentile.', 'fill="#555"'),
    '</svg>\n',
  ].join('\n');
}
