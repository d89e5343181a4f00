# What Cloudflare may store and must leave alone, as plain values: no provider is needed to read
# them, so the tests evaluate this file with Terraform itself.

variable "host" {
  description = "Name of the gateway, such as pay.example.com"
  type        = string
}

variable "documentation" {
  description = "Paths that are the same for everybody; one that ends in / stands for all below it"
  type        = list(string)
  default     = ["/docs", "/docs/", "/problems/", "/openapi.json"]
}

locals {
  ours = "http.host eq \"${var.host}\""
  paths = join(" or ", [
    for path in var.documentation : endswith(path, "/")
    ? "starts_with(http.request.uri.path, \"${path}\")"
    : "http.request.uri.path eq \"${path}\""
  ])

  # The last rule that matches wins. So nothing is stored, unless it is the documentation, read
  # without a key, and the gateway says that it may be stored.
  cache_rules = [
    {
      ref               = "store_nothing"
      description       = "EasyPay: nothing is stored"
      expression        = "(${local.ours})"
      action            = "set_cache_settings"
      action_parameters = { cache = false }
    },
    {
      ref         = "store_documentation"
      description = "EasyPay: the documentation is stored for as long as the gateway says"
      expression  = "(${local.ours} and http.request.method in {\"GET\" \"HEAD\"} and (${local.paths}))"
      action      = "set_cache_settings"
      action_parameters = {
        cache                = true
        edge_ttl             = { mode = "bypass_by_default" }
        browser_ttl          = { mode = "respect_origin" }
        respect_strong_etags = true
      }
    },
  ]

  # Bytes arrive as the gateway sent them: a script that is rewritten fails its integrity check, and
  # an ETag of other bytes fails If-Match.
  config_rules = [
    {
      ref         = "change_nothing"
      description = "EasyPay: no page is rewritten, no client is challenged"
      expression  = "(${local.ours})"
      action      = "set_config"
      action_parameters = {
        automatic_https_rewrites = false
        bic                      = false
        disable_apps             = true
        disable_zaraz            = true
        email_obfuscation        = false
        mirage                   = false
        polish                   = "off"
        rocket_loader            = false
        ssl                      = "strict"
      }
    },
  ]

  compression_rules = [
    {
      ref               = "leave_encodings"
      description       = "EasyPay: the API is not compressed here, because that weakens its ETags"
      expression        = "(${local.ours} and starts_with(http.request.uri.path, \"/api/\"))"
      action            = "compress_response"
      action_parameters = { algorithms = [{ name = "none" }] }
    },
  ]

  # Refused, not redirected: a card number that came in the clear has already leaked.
  firewall_rules = [
    {
      ref         = "only_tls"
      description = "EasyPay: nothing in the clear, and administration stays on its host"
      expression  = "(${local.ours} and (not ssl or starts_with(http.request.uri.path, \"/api/v1/admin\") or http.request.uri.path in {\"/metrics\" \"/readyz\"}))"
      action      = "block"
    },
  ]

  # Of the whole zone.
  settings = {
    "0rtt"            = "off" # early data can be sent again by anyone who recorded it
    "early_hints"     = "off"
    "http2"           = "on"
    "min_tls_version" = "1.2"
    "ssl"             = "strict"
    "tls_1_3"         = "on"
  }
}

output "cache_rules" { value = local.cache_rules }
output "config_rules" { value = local.config_rules }
output "compression_rules" { value = local.compression_rules }
output "firewall_rules" { value = local.firewall_rules }
output "settings" { value = local.settings }
