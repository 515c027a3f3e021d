#!/usr/bin/env bash
# npm ci of a small package whose dependencies are made here: no registry is asked.
. "$(dirname "$0")/lib.sh"
if [ "$phase" = run ]; then
  for part in one two; do
    mkdir -p "$scratch/$part/lib" && cd "$scratch/$part"
    printf '{"name":"%s","version":"1.0.0","main":"lib/0.js","bin":{"%s-run":"lib/0.js"}}' "$part" "$part" >package.json
    for i in $(seq 0 200); do printf '#!/usr/bin/env node\nmodule.exports = "%s";\n' "$part" >"lib/$i.js"; done
    npm pack --silent --pack-destination "$scratch" >/dev/null
  done
  mkdir "$dir/app" && cd "$dir/app"
  cp "$scratch"/*.tgz .
  printf '{"name":"app","version":"1.0.0","dependencies":{"one":"file:one-1.0.0.tgz","two":"file:two-1.0.0.tgz"}}' >package.json
  npm install --package-lock-only --offline --silent --cache "$scratch/cache"
  npm ci --offline --silent --no-audit --no-fund --cache "$scratch/cache"
fi
cd "$dir/app"
[ "$(node -p 'require("one") + require("two") + require("one/lib/200.js")')" = onetwoone ] || fail 'the modules are wrong'
node_modules/.bin/one-run
npm ls --silent >/dev/null
