/** The code of the error that a call fails with; `none` where it succeeds. */
export async function errnoOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
  return 'none';
}
