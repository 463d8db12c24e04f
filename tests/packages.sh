# shellcheck shell=bash
# For tests/run and .ci/run to source: what the system lacks, from apt.

# Installs Debian packages, or says which ones to install.
install_packages() {
  local root=()
  if ((EUID != 0)); then
    root=(sudo)
    # Only a person at a terminal can be asked for a password.
    if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; }; }; then
      printf 'These packages are missing and you may not install them: %s\n' "$*" >&2
      printf 'As root: apt-get install --no-install-recommends %s\n' "$*" >&2
      return 1
    fi
  fi
  if ! command -v apt-get >/dev/null; then
    printf 'This system has no apt. Install by its own means what Debian calls: %s\n' "$*" >&2
    return 1
  fi
  "${root[@]}" apt-get update --quiet
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "$@"
}
