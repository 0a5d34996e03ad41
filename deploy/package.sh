#!/usr/bin/env bash
# Makes the tarball and the Debian package of a binary that is built already, and their checksums. The same binary, version and
# SOURCE_DATE_EPOCH give the same bytes. Nothing is compiled, and no right but that to write DESTINATION is needed.
#
# The binary is run for its manual pages and completions. One for another kind of machine needs RUNNER, such as
# "qemu-aarch64-static -L /usr/aarch64-linux-gnu". What it was built of is read
# out of the binary by auditable2cdx; a binary without that list is packed without it, and that is said.
set -euo pipefail

usage="usage: $0 BINARY DESTINATION"
binary=$(realpath "${1:?$usage}")
mkdir -p "${2:?$usage}"
destination=$(realpath "$2")
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
cd "$here/.."
: "${SOURCE_DATE_EPOCH:?is the time of every file in the packages, in seconds since 1970}"
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
# Of compression; a lower one is quicker.
level=${LEVEL:-9}
# Whoever builds packages for others names who answers for them.
maintainer=${MAINTAINER:-linxo-webhook developers <linxo-webhook@localhost>}
umask 022

run() { ${RUNNER:-} "$binary" "$@"; }
version=$(run --version | cut -d' ' -f2)
machine=$(readelf --file-header "$binary" | awk '/Machine:/ { print $NF }')
case $machine in
  X86-64) architecture=amd64 ;;
  AArch64) architecture=arm64 ;;
  *) echo "$machine: unknown machine" >&2; exit 1 ;;
esac
# The newest symbol of the C library that is needed; Debian's versions are the same numbers.
libc=$(readelf --version-info "$binary" | grep -oE 'GLIBC_[0-9.]+' | cut -d_ -f2 | sort --version-sort | tail -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/deb
mkdir -p "$root/DEBIAN" "$work/man"

# What both packages have.
run man "$work/man"
for shell in bash zsh fish; do run completions "$shell" >"$work/linxo-webhook.$shell"; done
if bill=$(auditable2cdx "$binary" 2>/dev/null); then
  printf '%s\n' "$bill" >"$work/linxo-webhook.cdx.json"
  cargo metadata --locked --format-version 1 | deploy/licences.py "$work/linxo-webhook.cdx.json" | gzip --best --no-name >"$work/licences.gz"
else
  echo "package: without a bill of materials and without licences: no auditable2cdx, or a binary that was not built by cargo auditable" >&2
fi

put() { install -D -m "$1" "$2" "$root/$3"; }
put 0755 "$binary" usr/bin/linxo-webhook
put 0644 deploy/linxo-webhook.service usr/lib/systemd/system/linxo-webhook.service
put 0644 deploy/linxo-webhook.socket usr/lib/systemd/system/linxo-webhook.socket
put 0644 deploy/linxo-webhook.sysusers usr/lib/sysusers.d/linxo-webhook.conf
put 0644 "$work/linxo-webhook.bash" usr/share/bash-completion/completions/linxo-webhook
put 0644 "$work/linxo-webhook.zsh" usr/share/zsh/vendor-completions/_linxo-webhook
put 0644 "$work/linxo-webhook.fish" usr/share/fish/vendor_completions.d/linxo-webhook.fish
for page in "$work"/man/*.1; do
  mkdir -p "$root/usr/share/man/man1"
  gzip --best --no-name <"$page" >"$root/usr/share/man/man1/${page##*/}.gz"
done
doc=usr/share/doc/linxo-webhook
put 0644 deploy/debian/copyright $doc/copyright
# What Debian wants to read of changes is in its own form.
printf '%s (%s) unstable; urgency=medium\n\n  * CHANGELOG.md beside this file says what has changed.\n\n -- %s  %s\n' \
  linxo-webhook "$version" "$maintainer" "$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")" |
  gzip --best --no-name >"$root/$doc/changelog.gz"
put 0644 deploy/debian/overrides usr/share/lintian/overrides/linxo-webhook
for page in README.md CHANGELOG.md; do put 0644 $page $doc/$page; done
put 0644 deploy/linxo-webhook.toml $doc/examples/linxo-webhook.toml
put 0644 config/linxo-webhook.toml $doc/examples/reference.toml
put 0644 deploy/alerts.yaml $doc/examples/alerts.yaml
put 0644 deploy/dashboard.json $doc/examples/dashboard.json
for page in docs/*.md; do put 0644 "$page" "$doc/$page"; done
for file in docs/schema/*.json; do put 0644 "$file" "$doc/$file"; done
if [[ -e $work/linxo-webhook.cdx.json ]]; then
  put 0644 "$work/linxo-webhook.cdx.json" $doc/linxo-webhook.cdx.json
  put 0644 "$work/licences.gz" $doc/LICENCES.gz
fi
install -d -m 0755 "$root/etc/linxo-webhook"

# The tarball: the same tree without what is Debian's.
name=linxo-webhook-$version-$architecture
mkdir "$work/$name"
cp -a "$root/usr" "$root/etc" "$work/$name/"
rm -r "$work/$name/usr/share/lintian" "$work/$name/$doc/changelog.gz" "$work/$name/$doc/copyright"
cp LICENSE "$work/$name/"
find "$work" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
tar --create --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
  --directory="$work" "$name" | gzip -"$level" --no-name >"$destination/$name.tar.gz"

# In KiB, of files alone: what a folder takes depends on the disk.
size=$(find "$root/usr" -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
for script in postinst prerm postrm; do put 0755 deploy/debian/$script DEBIAN/$script; done
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@LIBC@/$libc/" \
  -e "s/@MAINTAINER@/$maintainer/" -e "s/@SIZE@/$size/" \
  deploy/debian/control >"$root/DEBIAN/control"
(cd "$root" && find usr -type f -print0 | sort --zero-terminated | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
package=linxo-webhook_${version}_$architecture.deb
# One thread: several would cut the archive into other pieces.
dpkg-deb --root-owner-group --threads-max=1 -Zxz -z"$level" --build "$root" "$destination/$package" >/dev/null

cd "$destination"
files=("$name.tar.gz" "$package")
if [[ -e $work/linxo-webhook.cdx.json ]]; then
  cp "$work/linxo-webhook.cdx.json" "$name.cdx.json"
  files+=("$name.cdx.json")
fi
sha256sum "${files[@]}" | tee SHA256SUMS
