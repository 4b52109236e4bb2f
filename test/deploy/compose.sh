#!/usr/bin/env bash
# Builds the image from a clean checkout, runs docker-compose.yml as it is, and uses it as a user would. It needs root, and no
# image registry: it starts a Docker daemon of its own and makes the base images from what the machine has (images.sh).
#
# PERDURE_DEPLOY_SCRATCH names a directory that is kept, with the images, so that the next run is quick; without it, everything
# goes away at the end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
scratch=${PERDURE_DEPLOY_SCRATCH:-}
keep=$scratch
[ -n "$scratch" ] || scratch=$(mktemp -d /tmp/perdure-deploy.XXXXXX)
mkdir -p "$scratch"
export DOCKER_HOST=unix://$scratch/docker.sock
export COMPOSE_PROJECT_NAME=perdure-test PERDURE_PORT=17233 PERDURE_HTTP_PORT=17243 PERDURE_UI_PORT=18233
api=127.0.0.1:$PERDURE_PORT
daemon="" worker=""

say() { echo "== $*"; }
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

clean_up() {
  status=$?
  set +e
  [ -z "$worker" ] || kill "$worker"
  if [ -n "$daemon" ]; then
    [ "$status" = 0 ] || compose logs --tail=30
    compose --profile ha down --volumes --timeout 20 >/dev/null 2>&1
    kill "$daemon"
    wait "$daemon" 2>/dev/null
  fi
  [ -n "$keep" ] || rm -rf "$scratch"
  exit "$status"
}
trap clean_up EXIT

compose() { docker-compose --project-directory "$scratch/checkout" -f "$scratch/checkout/docker-compose.yml" "$@"; }

install_tools() {
  local missing=""
  command -v dockerd >/dev/null || missing="$missing docker.io iptables"
  command -v docker-compose >/dev/null || missing="$missing docker-compose"
  command -v busybox >/dev/null || missing="$missing busybox-static"
  [ -n "$missing" ] || return 0
  say "installing$missing"
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# start_daemon tries the ways in which a daemon may work here, the usual one first.
start_daemon() {
  local options
  for options in "--storage-driver=overlay2" "--storage-driver=overlay2 --iptables=false" "--storage-driver=vfs" "--storage-driver=vfs --iptables=false"; do
    # shellcheck disable=SC2086
    dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" --pidfile "$scratch/docker.pid" $options >"$scratch/dockerd.log" 2>&1 &
    daemon=$!
    for _ in $(seq 60); do
      if docker info >/dev/null 2>&1; then
        say "a Docker daemon runs ($options)"
        return 0
      fi
      kill -0 "$daemon" 2>/dev/null || break
      sleep 0.5
    done
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    daemon=""
  done
  tail -20 "$scratch/dockerd.log" >&2
  fail "no Docker daemon can be started"
}

# check_out copies what a clone would have, with what is not committed yet.
check_out() {
  rm -rf "$scratch/checkout"
  mkdir -p "$scratch/checkout"
  git -C "$repo" ls-files -z --cached --others --exclude-standard | (cd "$repo" && xargs -0 sh -c 'for f; do [ ! -e "$f" ] || echo "$f"; done' sh) | tar -C "$repo" -c -T - | tar -C "$scratch/checkout" -x
}

# await_healthy waits until the health checks of services say that they are well.
await_healthy() {
  local service id state
  for service in "$@"; do
    for _ in $(seq 180); do
      id=$(compose ps -q "$service" | head -1)
      state=$([ -n "$id" ] && docker inspect --format '{{.State.Health.Status}}' "$id" || echo none)
      [ "$state" != healthy ] || continue 2
      sleep 1
    done
    fail "$service is not healthy but $state"
  done
}

# order ID PACKING WAIT places an order with the example.
order() { "$scratch/bin/start" -address "$api" -id "$1" -packing "$2" -wait="$3"; }

install_tools
start_daemon
check_out
say "making the base images"
rm -rf "$scratch/images"
mkdir -p "$scratch/images"
(cd "$repo" && go mod download && bash "$here/images.sh" "$scratch/images")
rm -rf "$scratch/images"

say "building the image"
DOCKER_BUILDKIT=0 compose build --quiet history 2>&1 | { grep -v -i buildkit || true; }
(cd "$repo" && go build -o "$scratch/bin/" ./examples/order/worker ./examples/order/start ./examples/order/result)

say "what is in the image"
[ "$(docker inspect --format '{{.Config.User}}' perdure:dev)" = 65532:65532 ] || fail "the image runs as root"
! docker run --rm --entrypoint /bin/sh perdure:dev -c true 2>/dev/null || fail "the image has a shell"
docker run --rm perdure:dev --version
docker image ls perdure:dev --format 'perdure:dev has {{.Size}}'

say "docker-compose up"
compose up -d --quiet-pull 2>&1 | tail -8
await_healthy postgres history matching frontend

say "the example"
"$scratch/bin/worker" -address "$api" >"$scratch/worker.log" 2>&1 &
worker=$!
order first 1s true
curl -fsS "http://127.0.0.1:$PERDURE_HTTP_PORT/healthz/ready" >/dev/null || fail "the frontend is not ready"
curl -fsS "http://127.0.0.1:$PERDURE_UI_PORT/" | grep -qi '<html' || fail "there is no Web UI"
curl -fsS "http://127.0.0.1:$PERDURE_UI_PORT/api/v1/namespaces/default/workflows" | grep -q '"first"' || fail "the Web UI does not list the order"

say "down and up again: the volume keeps the state"
order slow 25s false
compose down --timeout 40 2>&1 | tail -2
compose up -d 2>&1 | tail -2
await_healthy postgres history matching frontend
"$scratch/bin/result" -address "$api" -id slow | tee "$scratch/result"
grep -q track-slow "$scratch/result" || fail "the order did not go on"

say "two of each: one dies"
compose --profile ha up -d 2>&1 | tail -2
await_healthy history history-2 matching matching-2 frontend
docker run --rm --network perdure-test_default perdure:dev admin shards --postgres postgres://perdure:perdure@postgres:5432/perdure
order crash 10s false
docker kill "$(compose ps -q history)" "$(compose ps -q matching)" >/dev/null
"$scratch/bin/result" -address "$api" -id crash | tee "$scratch/result"
grep -q track-crash "$scratch/result" || fail "the order did not survive"

say "fsck"
docker run --rm --network perdure-test_default perdure:dev admin fsck --postgres postgres://perdure:perdure@postgres:5432/perdure

say "stop"
compose --profile ha stop --timeout 45 2>&1 | tail -2
for service in frontend history-2 matching-2; do
  code=$(docker inspect --format '{{.State.ExitCode}}' "$(compose --profile ha ps -q "$service")")
  [ "$code" = 0 ] || fail "$service stopped with exit code $code"
done
say "passed"
