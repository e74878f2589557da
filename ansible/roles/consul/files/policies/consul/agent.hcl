# A Consul agent, besides its own node identity: sees who else is there.
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
