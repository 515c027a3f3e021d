import type { Namespace } from '../../../engine/tree/namespaces.ts';
import type { Owner } from '../../../engine/tree/types.ts';
import type { Control } from './control.ts';

/** What a mount shows. */
export interface View {
  readonly namespaces: readonly Namespace[];
  /** Who owns what is not in the tree. */
  readonly owner: Owner;
  /** Serves the control files; without it there are none. */
  readonly control: Control | undefined;
}
