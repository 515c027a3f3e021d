#!/usr/bin/env bash
# Checkpoints as torch writes them: checkpoint.py.
. "$(dirname "$0")/lib.sh"
python=python3
[ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
"$python" "$(dirname "$0")/checkpoint.py" "$dir" "$phase"
