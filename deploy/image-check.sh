#!/usr/bin/env bash
# Tries the container's root folder by hand, where there is no container engine: as uid 65532, on a read-only root without
# a shell, `--version`, `check`, `demo`, and a `serve` that answers `health` and drains on SIGTERM. Needs root (mounts, chroot).
set -euo pipefail

binary=$(realpath "${1:?usage: $0 BINARY}")
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
((EUID == 0)) || { echo "needs root" >&2; exit 1; }

work=$(mktemp -d)
child=
finish() {
  [[ -z $child ]] || kill -KILL "$child" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
chmod 0755 "$work"
root=$work/root
"$here/assemble-root.sh" "$binary" "$root"

# Mounts live in a namespace of their own and end with it. `exec` all along: signals reach the program itself.
inside() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  exec unshare --mount --propagation private sh -euc '
    root=$1 state=$2; shift 2
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    for writable in data certs; do mount --bind "$state/$writable" "$root/$writable"; done
    cd "$root"
    # Looked up here: env looks in the PATH that it sets.
    chroot=$(command -v chroot)
    exec env -i PATH=/usr/local/bin SQLITE_TMPDIR=/data \
      LINXO_WEBHOOK__LISTENER__ADDRESS=127.0.0.1:0 LINXO_WEBHOOK__ADMIN__ADDRESS="$ADMIN" LINXO_WEBHOOK__LOG__FORMAT=json \
      "$chroot" --userspec=65532:65532 "$root" "$@"
  ' sh "$root" "$work/state" "$@"
}
# Volumes that begin as the image's own folders.
mkdir "$work/state"
cp -a "$root/data" "$root/certs" "$work/state/"

fail() {
  echo "image-check: $1" >&2
  [[ ! -s $work/log ]] || cat "$work/log" >&2
  exit 1
}
export ADMIN=127.0.0.1:${ADMIN_PORT:-19390}
program=/usr/local/bin/linxo-webhook

(inside "$program" --version) || fail "--version failed"
! (inside /bin/sh -c true) 2>/dev/null || fail "there is a shell in the image"
(inside "$program" check) >"$work/log" 2>&1 || fail "check failed"

(inside "$program" demo) >"$work/log" 2>&1 || fail "demo failed"
[[ -z $(find "$work/state" -name 'linxo-webhook-demo-*') ]] || fail "demo left its folder behind"

inside "$program" serve >"$work/log" 2>&1 &
child=$!
for _ in {1..100}; do
  grep -q listening "$work/log" && break
  kill -0 "$child" 2>/dev/null || fail "serve ended at once"
  sleep 0.1
done
grep -q listening "$work/log" || fail "serve did not listen within 10 s"
[[ $(awk '/^Uid:/ { print $2 }' "/proc/$child/status") == 65532 ]] || fail "serve does not run as uid 65532"
(inside "$program" health) >/dev/null || fail "health failed while serving"
kill -TERM "$child"
status=0
wait "$child" || status=$?
child=
((status == 0)) || fail "serve ended with $status after SIGTERM"

echo "image-check: ok, $(find "$root" -type f | wc -l) files, $(du -sm "$root" | cut -f1) MB"
