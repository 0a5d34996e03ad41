#!/bin/sh
# Lays out the root folder of the container: the binary, the shared libraries that it names, trusted authorities, and one
# user. Used by the Dockerfile and by image-check.sh, so that what is checked is what is shipped. No shell gets in.
set -eu

binary=${1:?usage: $0 BINARY DESTINATION}
root=${2:?usage: $0 BINARY DESTINATION}

install -D -m 0755 "$binary" "$root/usr/local/bin/linxo-webhook"

# Lines of ldd: "libc.so.6 => /lib/.../libc.so.6 (0x...)" and, for the loader, "/lib64/ld-linux-x86-64.so.2 (0x...)".
case $(ldd "$binary") in
  *"not found"*) echo "a shared library of $binary is missing:" >&2; ldd "$binary" >&2; exit 1 ;;
esac
ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
  install -D -m 0755 "$library" "$root$library"
done

# For calls to the vendor's API and to HTTP sinks.
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"

printf 'nonroot:x:65532:65532::/data:/nonexistent\n' >"$root/etc/passwd"
printf 'nonroot:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
# Container engines put their own in its place.
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
chmod 0644 "$root/etc/hosts" "$root/etc/passwd" "$root/etc/group" "$root/etc/nsswitch.conf"

# Where the default configuration looks. data/ and certs/ may be written: the inbox, and a certificate made on first start.
install -d -m 0755 "$root/config"
install -d -m 0700 -o 65532 -g 65532 "$root/data" "$root/certs"
