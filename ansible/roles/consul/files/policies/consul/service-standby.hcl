# What keeps copies of the agent's state: says that it is there.
service "choir-standby" {
  policy = "write"
}
