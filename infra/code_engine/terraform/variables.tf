variable "name" {
  description = "What everything is called, or begins with."
  type        = string
  default     = "flaregate"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", var.name))
    error_message = "name: 2 to 32 lower-case letters, digits and hyphens, with a letter first and no hyphen last."
  }
}

variable "region" {
  description = "Of the project and of the bucket."
  type        = string

  validation {
    condition     = contains(["au-syd", "br-sao", "ca-tor", "eu-de", "eu-es", "eu-gb", "jp-osa", "jp-tok", "us-east", "us-south"], var.region)
    error_message = "region: one that has Code Engine, such as eu-de or us-south."
  }
}

variable "resource_group" {
  description = "The resource group, which has to exist."
  type        = string
  default     = "Default"
}

variable "gateway_image" {
  description = "The gateway's image with its tag, REGISTRY/NAMESPACE/NAME:TAG."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9.-]+/.+(:[A-Za-z0-9_.-]+|@sha256:[a-f0-9]{64})$", var.gateway_image))
    error_message = "gateway_image: REGISTRY/NAMESPACE/NAME with a :TAG or an @sha256 digest."
  }
}

variable "worker_image" {
  description = "The worker's image with its tag, REGISTRY/NAMESPACE/NAME:TAG."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9.-]+/.+(:[A-Za-z0-9_.-]+|@sha256:[a-f0-9]{64})$", var.worker_image))
    error_message = "worker_image: REGISTRY/NAMESPACE/NAME with a :TAG or an @sha256 digest."
  }
}

variable "worker_environment" {
  description = "The label io.flaregate.environment of the worker's image: JSON."
  type        = string

  validation {
    condition     = can(jsondecode(var.worker_environment).python)
    error_message = "worker_environment: JSON with the key python, as the label io.flaregate.environment has it."
  }
}

variable "registry_password" {
  description = "An IAM API key that may read the images."
  type        = string
  sensitive   = true
}

variable "database_url" {
  description = "Of a PostgreSQL that the project reaches."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^postgresql://[^@]+@[^/]+/.+", var.database_url))
    error_message = "database_url: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with ?sslmode=verify-full where that is possible."
  }
}

variable "bucket" {
  description = "Name of the bucket, unique in the whole of IBM Cloud."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket: 3 to 63 lower-case letters, digits, dots and hyphens."
  }
}

variable "gateways" {
  description = "Instances of the gateway at most; there is none while nobody asks and no work is left."
  type        = number
  default     = 3

  validation {
    condition     = var.gateways >= 1 && var.gateways <= 10 && floor(var.gateways) == var.gateways
    error_message = "gateways: a whole number from 1 to 10."
  }
}

variable "peer_tcp" {
  description = "Whether instances of the project reach each other by TCP: `flaregate doctor` says so."
  type        = bool
  default     = true
}
