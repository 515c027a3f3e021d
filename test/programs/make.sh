#!/usr/bin/env bash
# A C project is built on the mount: make believes in modification times.
. "$(dirname "$0")/lib.sh"
if [ "$phase" = run ]; then
  mkdir "$dir/project" && cd "$dir/project"
  echo 'extern int common;' >common.h
  objects=main.o
  { echo '#include "common.h"'; echo 'int common = 3;'; echo 'int sum(void);'; echo 'int main(void) { return sum() == 3 * 20 ? 0 : 1; }'; } >main.c
  sum=0
  for i in $(seq 20); do
    printf '#include "common.h"\nint f%s(void) { return common; }\n' "$i" >"f$i.c"
    objects+=" f$i.o" sum+="+f$i()"
    echo "int f$i(void);" >>sum.h
  done
  printf '#include "sum.h"\nint sum(void) { return %s; }\n' "$sum" >sum.c
  printf 'program: %s sum.o\n\t$(CC) -o $@ $^\nsum.o: sum.h\n%%.o: %%.c common.h\n\t$(CC) -c -o $@ $<\n' "$objects" >Makefile
  make -s -j 4
  ./program || fail 'the program is wrong'
fi
cd "$dir/project"
make -q || fail 'something would be built again'
./program || fail 'the program is wrong'
touch f7.c
[ "$(make -n | grep -c -- '-c -o')" = 1 ] || fail 'make does not see what changed'
touch common.h
[ "$(make -n | grep -c -- '-c -o')" = 22 ] || fail 'make does not see that the header changed'
make -s -j 4 && make -q
