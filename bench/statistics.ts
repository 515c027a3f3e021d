/** Median and spread: what a figure of a noisy machine is told by. */
export interface Spread {
  median: number;
  min: number;
  max: number;
  count: number;
}

/** The spread of at least one value; of an even number the median is the mean of the middle two. */
export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new RangeError('no values');
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[sorted.length >> 1] ?? 0;
  const lower = sorted[(sorted.length - 1) >> 1] ?? 0;
  return {
    median: (lower + upper) / 2,
    min: sorted[0] ?? 0,
    max: sorted.at(-1) ?? 0,
    count: sorted.length,
  };
}

/** Three significant digits; large figures without an exponent. */
export function figure(value: number): string {
  return value >= 1000 ? `${Math.round(value)}` : value.toPrecision(3);
}

/** "2.11 (1.98–2.30)". */
export function spreadText(of: Spread): string {
  return `${figure(of.median)} (${figure(of.min)}–${figure(of.max)})`;
}
