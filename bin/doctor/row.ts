/** One thing that doctor looked at. */
export interface DoctorRow {
  name: string;
  /** `fail` means that no mount can work; `absent` is something optional that is not there. */
  state: 'ok' | 'warn' | 'fail' | 'absent';
  detail: string;
  /** What to do about it; '' where nothing needs doing. */
  advice: string;
}

/** A row that needs nothing. */
export function okRow(name: string, detail: string): DoctorRow {
  return { name, state: 'ok', detail, advice: '' };
}
