# EasyPay behind Cloudflare. deploy/cdn/README.md explains it: checked for form, never run.

terraform {
  required_version = ">= 1.5"
  required_providers {
    cloudflare = {
      source  = "cloudflare/cloudflare"
      version = "~> 5.0"
    }
  }
}

# The token comes from CLOUDFLARE_API_TOKEN.
provider "cloudflare" {}

variable "zone_id" {
  description = "The zone; give EasyPay one of its own, because some settings hold for all of it"
  type        = string
}

variable "host" {
  description = "Name of the gateway, such as pay.example.com"
  type        = string
}

variable "origin" {
  description = "IPv4 address of the host on which nginx stands (deploy/cdn/nginx.conf)"
  type        = string
}

variable "proxied" {
  description = "Whether requests pass through Cloudflare. If so it sees card numbers, and is a service provider in the scope of PCI DSS"
  type        = bool
  default     = false
}

module "rules" {
  source = "./rules"
  host   = var.host
}

resource "cloudflare_dns_record" "gateway" {
  zone_id = var.zone_id
  name    = var.host
  type    = "A"
  content = var.origin
  proxied = var.proxied
  ttl     = var.proxied ? 1 : 300
}

resource "cloudflare_ruleset" "cache" {
  zone_id = var.zone_id
  name    = "EasyPay: what is stored"
  kind    = "zone"
  phase   = "http_request_cache_settings"
  rules   = module.rules.cache_rules
}

resource "cloudflare_ruleset" "config" {
  zone_id = var.zone_id
  name    = "EasyPay: nothing is rewritten"
  kind    = "zone"
  phase   = "http_config_settings"
  rules   = module.rules.config_rules
}

resource "cloudflare_ruleset" "compression" {
  zone_id = var.zone_id
  name    = "EasyPay: encodings"
  kind    = "zone"
  phase   = "http_response_compression"
  rules   = module.rules.compression_rules
}

resource "cloudflare_ruleset" "firewall" {
  zone_id = var.zone_id
  name    = "EasyPay: what is refused"
  kind    = "zone"
  phase   = "http_request_firewall_custom"
  rules   = module.rules.firewall_rules
}

resource "cloudflare_zone_setting" "zone" {
  for_each   = module.rules.settings
  zone_id    = var.zone_id
  setting_id = each.key
  value      = each.value
}
