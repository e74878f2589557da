/* Pieces of JSON Schema for the tables of tools. Every object is closed and every value has a bound. */
#pragma once

#define TOOL_OBJECT(properties, required)                                                                              \
  "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{" properties "},\"required\":[" required "]}"
#define TOOL_TEXT(name, max, description)                                                                              \
  "\"" name "\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":" #max ",\"description\":\"" description "\"}"
/* Text that the model may only copy from what the person said: no host, name or time is made up. */
#define TOOL_COPIED(name, max, description)                                                                            \
  "\"" name "\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":" #max                                              \
  ",\"$comment\":\"copied\",\"description\":\"" description "\"}"
#define TOOL_INTEGER(name, min, max, description)                                                                      \
  "\"" name "\":{\"type\":\"integer\",\"minimum\":" #min ",\"maximum\":" #max ",\"description\":\"" description "\"}"
#define TOOL_FLAG(name, description) "\"" name "\":{\"type\":\"boolean\",\"description\":\"" description "\"}"
#define TOOL_NOTHING TOOL_OBJECT("", "")
