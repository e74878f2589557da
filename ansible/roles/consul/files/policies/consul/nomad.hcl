# A Nomad agent: registers the services of the jobs it runs and finds the servers.
agent_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "write"
}
key_prefix "config/" {
  policy = "read"
}
