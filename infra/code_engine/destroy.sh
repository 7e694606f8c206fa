#!/usr/bin/env bash
# Ends what deploy.sh made: destroy.sh [SETTINGS] [--with-objects]. The project goes with everything in it, running jobs too.
# Bucket and objects stay without --with-objects; the database is not touched. It may be run again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
settings=$here/settings
objects=
for given in "$@"; do
  case $given in
    --with-objects) objects=yes ;;
    -*)
      echo "$given is no option; there is --with-objects" >&2
      exit 2
      ;;
    *) settings=$given ;;
  esac
done
if [[ ! -f $settings ]]; then
  echo "there is no $settings: name the file that deploy.sh was given" >&2
  exit 2
fi
# shellcheck source=infra/code_engine/settings.example
source "$settings"
: "${NAME:?is not set in $settings}" "${REGION:?is not set in $settings}" "${RESOURCE_GROUP:?is not set in $settings}"

there() { "$@" >/dev/null 2>&1; }

ibmcloud target -r "$REGION" -g "$RESOURCE_GROUP"
if there ibmcloud ce project get --name "$NAME"; then
  ibmcloud ce project delete --name "$NAME" --force
fi
if there ibmcloud iam service-id "$NAME-gateway"; then
  ibmcloud iam service-id-delete "$NAME-gateway" --force
fi
if there ibmcloud resource service-key "$NAME-objects"; then
  ibmcloud resource service-key-delete "$NAME-objects" --force
fi
if [[ -n $objects ]] && there ibmcloud resource service-instance "$NAME-objects"; then
  ibmcloud resource service-instance-delete "$NAME-objects" --recursive --force
fi
