data "ibm_resource_group" "group" {
  name = var.resource_group
}

resource "ibm_code_engine_project" "project" {
  name              = var.name
  resource_group_id = data.ibm_resource_group.group.id
}

# Objects

resource "ibm_resource_instance" "storage" {
  name              = "${var.name}-objects"
  service           = "cloud-object-storage"
  plan              = "standard"
  location          = "global"
  resource_group_id = data.ibm_resource_group.group.id
}

resource "ibm_cos_bucket" "objects" {
  bucket_name          = var.bucket
  resource_instance_id = ibm_resource_instance.storage.id
  region_location      = var.region
  storage_class        = "smart"
  force_delete         = false
}

resource "ibm_resource_key" "objects" {
  name                 = "${var.name}-objects"
  resource_instance_id = ibm_resource_instance.storage.id
  role                 = "Writer"
  parameters           = { HMAC = true }
}

# What the gateway may do: job runs of this project, and nothing else

resource "ibm_iam_service_id" "gateway" {
  name        = "${var.name}-gateway"
  description = "Starts and ends job runs."
}

resource "ibm_iam_service_policy" "gateway" {
  iam_service_id = ibm_iam_service_id.gateway.id
  roles          = ["Writer"]

  resources {
    service              = "codeengine"
    resource_instance_id = ibm_code_engine_project.project.project_id
  }
}

resource "ibm_iam_service_api_key" "gateway" {
  name           = "${var.name}-gateway"
  iam_service_id = ibm_iam_service_id.gateway.iam_id
}

# Secrets and settings; only the gateway has them

resource "random_password" "token" {
  length  = 48
  special = false
}

resource "random_password" "secret" {
  length  = 64
  special = false
}

locals {
  hmac = jsondecode(ibm_resource_key.objects.credentials_json).cos_hmac_keys
}

resource "ibm_code_engine_secret" "registry" {
  project_id = ibm_code_engine_project.project.project_id
  name       = "${var.name}-images"
  format     = "registry"

  data = {
    server   = split("/", var.worker_image)[0]
    username = "iamapikey"
    password = var.registry_password
    email    = ""
  }
}

resource "ibm_code_engine_secret" "gateway" {
  project_id = ibm_code_engine_project.project.project_id
  name       = "${var.name}-gateway"
  format     = "generic"

  data = {
    FLAREGATE_TOKEN           = random_password.token.result
    FLAREGATE_SECRET          = random_password.secret.result
    FLAREGATE_DATABASE_URL    = var.database_url
    FLAREGATE_S3_ACCESS_KEY   = local.hmac.access_key_id
    FLAREGATE_S3_SECRET_KEY   = local.hmac.secret_access_key
    FLAREGATE_CODE_ENGINE_KEY = ibm_iam_service_api_key.gateway.apikey
  }
}

resource "ibm_code_engine_config_map" "gateway" {
  project_id = ibm_code_engine_project.project.project_id
  name       = "${var.name}-gateway"

  data = {
    FLAREGATE_LAUNCHER             = "code_engine"
    FLAREGATE_CODE_ENGINE_REGION   = var.region
    FLAREGATE_CODE_ENGINE_PROJECT  = ibm_code_engine_project.project.project_id
    FLAREGATE_CODE_ENGINE_JOB      = ibm_code_engine_job.worker.name
    FLAREGATE_CODE_ENGINE_PEER_TCP = tostring(var.peer_tcp)
    FLAREGATE_WORKER_ENVIRONMENT   = var.worker_environment
    FLAREGATE_STORE                = "s3"
    FLAREGATE_S3_BUCKET            = ibm_cos_bucket.objects.bucket_name
    FLAREGATE_S3_REGION            = var.region
    FLAREGATE_S3_ENDPOINT          = "https://s3.${var.region}.cloud-object-storage.appdomain.cloud"
    FLAREGATE_AWAKE                = "20"
  }
}

# Job runs are made of this; nothing runs until then

resource "ibm_code_engine_job" "worker" {
  project_id          = ibm_code_engine_project.project.project_id
  name                = "${var.name}-worker"
  image_reference     = var.worker_image
  image_secret        = ibm_code_engine_secret.registry.name
  run_mode            = "task"
  run_service_account = "none"
  scale_cpu_limit     = "1"
  scale_memory_limit  = "4G"
  scale_retry_limit   = 0
}

resource "ibm_code_engine_app" "gateway" {
  project_id            = ibm_code_engine_project.project.project_id
  name                  = var.name
  image_reference       = var.gateway_image
  image_secret          = ibm_code_engine_secret.registry.name
  image_port            = 8080
  run_service_account   = "none"
  scale_cpu_limit       = "0.5"
  scale_memory_limit    = "2G"
  scale_min_instances   = 0
  scale_max_instances   = var.gateways
  scale_request_timeout = 300

  run_env_variables {
    type      = "secret_full_reference"
    reference = ibm_code_engine_secret.gateway.name
  }

  run_env_variables {
    type      = "config_map_full_reference"
    reference = ibm_code_engine_config_map.gateway.name
  }
}
