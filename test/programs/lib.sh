# What the scripts of this folder share. Each gets the mounted directory as $1, a scratch directory elsewhere as $2 and
# a phase as $3: `run` in a fresh mount, `again` after the file system was mounted anew.
set -euo pipefail
dir=$1 scratch=$2 phase=$3

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# same A B: that two trees have the same names, types, modes, owners, times, link groups, xattrs, sizes and bytes.
same() {
  diff <(describe "$1") <(describe "$2") || fail "$1 and $2 differ"
}

# describe DIRECTORY: one line for everything below it. Times are compared to the nanosecond.
describe() {
  (
    cd "$1"
    find . -mindepth 1 -printf '%P\t%y\t%m\t%U:%G\t%T@\t%l\n' | sort
    find . -type f -printf '%P\t%s\n' | sort
    find . -type f -print0 | sort -z | xargs -0 -r sha256sum
    find . -type f -links +1 -printf '%i %P\n' | sort -k 2 | awk '{ n = $1; $1 = ""; if (!(n in g)) g[n] = ++c; print g[n] $0 }'
    find . -mindepth 1 \( -type f -o -type d \) -print0 | sort -z | xargs -0 -r getfattr --absolute-names -d -m - 2>/dev/null
  )
}
