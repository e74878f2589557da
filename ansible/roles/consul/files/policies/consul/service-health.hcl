# The health check: asks every expert.
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
