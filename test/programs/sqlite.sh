#!/usr/bin/env bash
# A database with a rollback journal: transactions, a roll-back, writers beside each other, and what is there later.
# WAL needs a shared, writable mapping of its -shm file: where the mount refuses that, SQLite must say so, and with an
# exclusive lock, which needs none, WAL must work.
. "$(dirname "$0")/lib.sh"
db=$dir/data.db
sql() { sqlite3 -bail -cmd '.timeout 20000' "$@"; }

if [ "$phase" = run ]; then
  [ "$(sql "$db" 'pragma journal_mode=delete; create table t(id integer primary key, who int, body blob);')" = delete ] || fail 'no rollback journal'
  sql "$db" 'begin; with recursive n(i) as (select 1 union all select i+1 from n where i<20000) insert into t(who, body) select 0, randomblob(100) from n; commit;'
  sql "$db" 'begin; delete from t; rollback;'
  for who in 1 2 3; do
    (for turn in $(seq 15); do sql "$db" "insert into t(who, body) values ($who, zeroblob($turn))"; done) &
  done
  wait
  wal=$(sql "$dir/wal.db" 'pragma journal_mode=wal;' 2>&1 || true)
  echo "journal_mode=wal with shared locks: $wal"
  sql "$dir/wal-exclusive.db" 'pragma locking_mode=exclusive; pragma journal_mode=wal; create table t(x); insert into t values (1), (2); pragma wal_checkpoint;' >/dev/null
fi
[ "$(sql "$db" 'pragma integrity_check')" = ok ] || fail 'the database is damaged'
[ "$(sql "$db" 'select count(*) from t where who=0')" = 20000 ] || fail 'rows are missing'
[ "$(sql "$db" 'select count(*) from t where who>0')" = 45 ] || fail 'rows of writers beside each other are missing'
[ "$(sql "$dir/wal-exclusive.db" 'pragma locking_mode=exclusive; select sum(x) from t' | tail -1)" = 3 ] || fail 'what went through the WAL is missing'
[ ! -e "$db-journal" ] || fail 'a journal was left'
