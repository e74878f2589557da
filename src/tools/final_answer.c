#include "tools/schema.h"
#include "tools/tools.h"

/* The loop ends when it sees this call; what it says is the answer. */
static void submit(ChoirToolCall *call) {
  choir_tool_call_output(call, choir_tool_call_string(call, "summary", ""), -1);
  choir_tool_call_done(call, FALSE, NULL); /* a summary of strangers' text is a stranger's text */
}

/* Ordinary talk: what is most like these needs no tool. */
static const char *const examples[] = {
    "what does a baker do all day", "what does a watch cost", "how long does it take to fly to japan", "hello",
    "hi there", "good evening", "how are you", "thanks a lot", "you are nice", "who are you", "who made you",
    "what can you do", "tell me a joke", "tell me a story about a dragon", "sing a song",
    "what is the highest mountain in france", "who composed the magic flute", "how old is the universe",
    "why is grass green", "how does a car engine work", "explain what gravity is", "what is the meaning of a word",
    "what is the difference between a fruit and a vegetable", "how do i bake bread", "when was the french revolution",
    "where do penguins live", "how long is the nile", "what should i eat tonight", "should i buy a car or a bike",
    "can you help me choose a gift", "do you like dogs", "do you know any poems", "i am tired", "i feel sad today",
    "i am happy", "i had a long day", "my brother is getting married", "my cat is sick", "i love pizza",
    "i like to read", "that is interesting", "i see", "yes", "no", "maybe later", "all right", "good night",
    "say it again", "what do you think about art", "is it hard to learn chinese", "which planet is the largest",
    "give me a fun fact", "translate thank you into german", "what is twelve plus nine", "write a poem about the sea",
    "let us talk about films", "the weather is nice", "i remember my grandmother", "time is money", "i have no time",
    "the terminal at the airport was crowded", "a shell lies on the beach", "the command of the king",
    "what is a computer", "what is a program", "what is ansible", "who wrote the bible",
    "i lost my memory of that summer", "he will commit to the team", "a diff is a kind of list",
    /* What only the memory could know. */
    "what is my aunt called", "what do we call our cottage", "what is my cousin's surname",
    "what is the number of my room", "what is my middle name", "what is my favourite song",
    "which colour do i like best", "which team do i support", "what kind of coffee do i drink",
    "which train do i take to work", "who treats my knee", "who looks after the garden", "who has my umbrella",
    "where do we keep the ladder", "where did i leave my glasses", "where does my uncle live",
    "when is my mother's wedding day", "when does my course begin", "when does the market open",
    "when do our neighbours come home", "how old is my nephew", "how much sugar may i eat", "which shop has our bread",
    "what did my teacher say", "which name does the office printer have", NULL};
static const ChoirToolAction actions[] = {
    {.name = "submit_task",
     .help = "Finish with the answer for the person.",
     .schema = TOOL_OBJECT(TOOL_TEXT("summary", 2000, "the answer"), "\"summary\""),
     .examples = examples,
     .run = submit},
};

const ChoirTool choir_tool_final_answer = {.id = "final_answer",
                                           .title = "Final answer",
                                           .help = "Ends a task with an answer.",
                                           .actions = actions,
                                           .n_actions = G_N_ELEMENTS(actions)};
