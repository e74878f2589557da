# The health check: asks every expert.
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
# The end of its log, for `choir logs`.
key_prefix "choir/logs/" {
  policy = "write"
}
