#!/usr/bin/env bash
# Makes the base images that the Dockerfile and docker-compose.yml name, from what this machine has, for tests where no image
# registry can be reached. Usage: images.sh DIRECTORY (for scratch). The Docker daemon is that of $DOCKER_HOST.
#
#   golang:1.26   this machine's Go, its module cache as the module proxy, a static busybox as the shell
#   postgres:17   this machine's PostgreSQL, whatever its version, behind the variables of the official image
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$1

# shell makes the parts that both images have.
shell() {
  mkdir -p "$1/usr/bin" "$1/usr/lib" "$1/usr/lib64" "$1/tmp" "$1/etc/ssl/certs" "$1/root"
  for d in bin lib lib64; do ln -s "usr/$d" "$1/$d"; done
  chmod 1777 "$1/tmp"
  cp "$(command -v busybox)" "$1/bin/busybox"
  for applet in sh cat chmod chown cp env id ls mkdir mv rm sleep; do ln -sf busybox "$1/bin/$applet"; done
  printf 'root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh\n' >"$1/etc/passwd"
  printf 'root:x:0:\npostgres:x:999:\n' >"$1/etc/group"
}

make_golang() {
  local root=$scratch/golang
  shell "$root"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  mkdir -p "$root/usr/local"
  cp -a "$(go env GOROOT)" "$root/usr/local/go"
  cp -a "$(go env GOMODCACHE)/cache/download" "$root/modules"
  docker import --change 'ENV PATH=/usr/local/go/bin:/bin GOPROXY=file:///modules GOTOOLCHAIN=local GOFLAGS=-modcacherw HOME=/root' \
    --change 'WORKDIR /root' - golang:1.26 < <(tar -C "$root" -c .) >/dev/null
}

make_postgres() {
  local root=$scratch/postgres bin
  bin=$(dirname "$(readlink -f "$(command -v postgres || ls /usr/lib/postgresql/*/bin/postgres | tail -1)")")
  shell "$root"
  mkdir -p "$root/var/lib/postgresql/data" "$root/run/postgresql"
  # With what the programs and the server's modules are linked to, wherever this machine keeps it.
  {
    printf '%s\n' "$bin" "$(dirname "$bin")/lib" "$("$bin/pg_config" --sharedir)" /usr/share/zoneinfo
    ldd "$bin"/* "$(dirname "$bin")"/lib/*.so 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*' | grep -v ':$' | sort -u | while read -r library; do
      printf '%s\n' "$(readlink -f "$(dirname "$library")")/$(basename "$library")" "$(readlink -f "$library")"
    done
  } | sort -u | tar -C / --ignore-failed-read -c -T - 2>/dev/null | tar -C "$root" -x
  cp "$here/postgres-entrypoint.sh" "$root/usr/bin/entrypoint.sh"
  chown -R 999:999 "$root/var/lib/postgresql" "$root/run/postgresql"
  docker import --change "ENV PATH=$bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data LANG=C.UTF-8" --change 'USER postgres' \
    --change 'ENTRYPOINT ["sh", "/usr/bin/entrypoint.sh"]' --change 'CMD ["postgres"]' \
    - postgres:17 < <(tar -C "$root" -c .) >/dev/null
}

# What is there from an earlier run is used again.
for image in golang:1.26 postgres:17; do
  docker image inspect "$image" >/dev/null 2>&1 || "make_${image%%:*}"
done
