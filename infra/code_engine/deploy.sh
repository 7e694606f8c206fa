#!/usr/bin/env bash
# Makes or brings up to date a gateway on Code Engine: deploy.sh [SETTINGS]. It may be run again at any time.
# Secrets go through files that only you can read, never through arguments.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
settings=${1:-$here/settings}
if [[ ! -f $settings ]]; then
  echo "there is no $settings: copy settings.example to it and fill it in" >&2
  exit 2
fi
# shellcheck source=infra/code_engine/settings.example
source "$settings"
for needed in NAME REGION RESOURCE_GROUP GATEWAY_IMAGE WORKER_IMAGE WORKER_ENVIRONMENT REGISTRY_PASSWORD DATABASE_URL BUCKET; do
  if [[ -z ${!needed:-} ]]; then
    echo "$needed is not set in $settings" >&2
    exit 2
  fi
done
for tool in ibmcloud jq openssl; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool is needed and is not here" >&2
    exit 2
  fi
done

umask 077
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

there() { "$@" >/dev/null 2>&1; }
verb() { if there ibmcloud ce "$1" get --name "$2"; then echo update; else echo create; fi; }

ibmcloud target -r "$REGION" -g "$RESOURCE_GROUP"

# The project
if ! there ibmcloud ce project get --name "$NAME"; then
  ibmcloud ce project create --name "$NAME"
fi
ibmcloud ce project select --name "$NAME"
project=$(ibmcloud ce project get --name "$NAME" --output json | jq -r .guid)

# Objects
if ! there ibmcloud resource service-instance "$NAME-objects"; then
  ibmcloud resource service-instance-create "$NAME-objects" cloud-object-storage standard global -g "$RESOURCE_GROUP"
fi
storage=$(ibmcloud resource service-instance "$NAME-objects" --output json | jq -r '.[0].crn')
if ! there ibmcloud cos bucket-head --bucket "$BUCKET" --region "$REGION"; then
  ibmcloud cos bucket-create --bucket "$BUCKET" --ibm-service-instance-id "$storage" --class smart --region "$REGION"
fi
if ! there ibmcloud resource service-key "$NAME-objects"; then
  ibmcloud resource service-key-create "$NAME-objects" Writer --instance-id "$storage" --parameters '{"HMAC": true}' >/dev/null
fi

# Images
printf %s "$REGISTRY_PASSWORD" >"$scratch/registry"
images=(--name "$NAME-images" --server "${WORKER_IMAGE%%/*}" --username iamapikey --password-from-file "$scratch/registry")
if there ibmcloud ce secret get --name "$NAME-images"; then
  ibmcloud ce secret update "${images[@]}"
else
  ibmcloud ce secret create --format registry "${images[@]}"
fi

# What the gateway may do: job runs of this project, and nothing else. Its secrets are made once; delete the secret
# NAME-gateway and run this again for new ones.
if ! there ibmcloud ce secret get --name "$NAME-gateway"; then
  if ! there ibmcloud iam service-id "$NAME-gateway"; then
    ibmcloud iam service-id-create "$NAME-gateway" --description "Starts and ends job runs."
  fi
  policies=$(ibmcloud iam service-policies "$NAME-gateway" --output json | jq length)
  if [[ $policies == 0 ]]; then
    ibmcloud iam service-policy-create "$NAME-gateway" --roles Writer --service-name codeengine \
      --service-instance "$project" --force
  fi
  ibmcloud resource service-key "$NAME-objects" --output json >"$scratch/hmac"
  ibmcloud iam service-api-key-create "$NAME-gateway" "$NAME-gateway" --output json --force >"$scratch/key"
  {
    echo "FLAREGATE_TOKEN=$(openssl rand -hex 32)"
    echo "FLAREGATE_SECRET=$(openssl rand -hex 32)"
    echo "FLAREGATE_DATABASE_URL=$DATABASE_URL"
    jq -r '.[0].credentials.cos_hmac_keys | "FLAREGATE_S3_ACCESS_KEY=\(.access_key_id)\nFLAREGATE_S3_SECRET_KEY=\(.secret_access_key)"' "$scratch/hmac"
    jq -r '"FLAREGATE_CODE_ENGINE_KEY=\(.apikey)"' "$scratch/key"
  } >"$scratch/secrets"
  ibmcloud ce secret create --name "$NAME-gateway" --from-env-file "$scratch/secrets"
fi

# Job runs are made of this; nothing runs until then. What fails is begun again by the gateway, which knows what was done.
ibmcloud ce job "$(verb job "$NAME-worker")" --name "$NAME-worker" --image "$WORKER_IMAGE" \
  --registry-secret "$NAME-images" --service-account none --cpu 1 --memory 4G --retrylimit 0

cat >"$scratch/settings" <<EOF
FLAREGATE_LAUNCHER=code_engine
FLAREGATE_CODE_ENGINE_REGION=$REGION
FLAREGATE_CODE_ENGINE_PROJECT=$project
FLAREGATE_CODE_ENGINE_JOB=$NAME-worker
FLAREGATE_CODE_ENGINE_PEER_TCP=${PEER_TCP:-true}
FLAREGATE_WORKER_ENVIRONMENT=$WORKER_ENVIRONMENT
FLAREGATE_STORE=s3
FLAREGATE_S3_BUCKET=$BUCKET
FLAREGATE_S3_REGION=$REGION
FLAREGATE_S3_ENDPOINT=https://s3.$REGION.cloud-object-storage.appdomain.cloud
FLAREGATE_AWAKE=20
EOF
ibmcloud ce configmap "$(verb configmap "$NAME-gateway")" --name "$NAME-gateway" --from-env-file "$scratch/settings"

# The gateway: no instance while nobody asks and no work is left
ibmcloud ce application "$(verb application "$NAME")" --name "$NAME" --image "$GATEWAY_IMAGE" \
  --registry-secret "$NAME-images" --service-account none --port 8080 --cpu 0.5 --memory 2G \
  --min-scale 0 --max-scale "${GATEWAYS:-3}" --request-timeout 300 \
  --env-from-secret "$NAME-gateway" --env-from-configmap "$NAME-gateway"

url=$(ibmcloud ce application get --name "$NAME" --output url)
echo "FLAREGATE_URL=$url"
echo "FLAREGATE_TOKEN is in the secret $NAME-gateway: ibmcloud ce secret get --name $NAME-gateway --decode"
