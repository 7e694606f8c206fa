output "url" {
  description = "FLAREGATE_URL of clients."
  value       = ibm_code_engine_app.gateway.endpoint
}

output "token" {
  description = "FLAREGATE_TOKEN of clients: terraform output -raw token."
  value       = random_password.token.result
  sensitive   = true
}

output "project" {
  description = "Id of the project."
  value       = ibm_code_engine_project.project.project_id
}
