# The agent's proxy in Consul's mesh (consul_connect): takes the agent's certificate and finds where experts are.
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
service "pipecat-app" {
  policy = "write"
}
