"""Makes dialogues.json: whole conversations with what is worth keeping in them. Written by hand, put together here so
that each has small talk around it. Kept: pairs of a statement and a question that is asked after a restart."""
import json
import pathlib

SAID = [
    # with the word "remember"
    ("Please remember that my server is called atlas.", "what is my server called?", "atlas"),
    ("Remember that the spare key is with Petra.", "who has the spare key?", "petra"),
    ("Remember my flight is on the second of June.", "when is my flight?", "june"),
    ("Can you remember that I take my pills at seven.", "when do I take my pills?", "seven"),
    ("Remember this: the garage code is 9051.", "what is the code of the garage?", "9051"),
    ("Remember that Jonas plays the trumpet.", "which instrument does Jonas play?", "trumpet"),
    ("Please remember, our anniversary is the fourth of August.", "when is our anniversary?", "august"),
    ("Remember that the router stands in the attic.", "where is the router?", "attic"),
    ("Remember my doctor is Dr Yamada.", "who is my doctor?", "yamada"),
    ("Choir, remember that Minka must not get milk.", "what must Minka not get?", "milk"),
    ("Remember that the wiki runs on port 8443.", "on which port is the wiki?", "8443"),
    ("Remember that my shoe size is 44.", "what is my shoe size?", "44"),
    ("Remember that I park on level three.", "where do I park?", "three"),
    ("Remember that the bins go out on Wednesday.", "when do the bins go out?", "wednesday"),
    ("Remember that Dad's number is 555 0187.", "what is Dad's number?", "0187"),
    ("Okay, remember that the boiler is from 2021.", "how old is the boiler?", "2021"),
    ("Remember that my bank is Nordea.", "which bank do I have?", "nordea"),
    ("Remember that our hotel is the Seagull.", "what is our hotel?", "seagull"),
    ("Please remember that my locker number is 118.", "what is my locker number?", "118"),
    ("Remember that the choir meets in room five.", "where does the choir meet?", "five"),
    # without it
    ("My name is Sven.", "what is my name?", "sven"),
    ("I'm allergic to penicillin.", "which medicine must I not get?", "penicillin"),
    ("My sister Vera lives in Porto.", "where does my sister live?", "porto"),
    ("I work as a tram driver.", "what is my job?", "tram"),
    ("Our cat is called Minka.", "what is the name of our cat?", "minka"),
    ("I can't stand coriander.", "which herb do I not like?", "coriander"),
    ("My favourite dish is mushroom risotto.", "what do I like to eat best?", "risotto"),
    ("I was born in Aberdeen.", "where was I born?", "aberdeen"),
    ("My daughter studies chemistry in Uppsala.", "what does my daughter study?", "chemistry"),
    ("I have choir practice on Thursday evening.", "what do I do on Thursdays?", "choir"),
    ("I drink my coffee black.", "how do I like my coffee?", "black"),
    ("I drive a blue Volvo.", "what car do I drive?", "volvo"),
    ("The backup starts at half past two at night.", "when does the backup start?", "two"),
    ("My dentist is in Park Street.", "where is my dentist?", "park"),
    ("My mother lives in a care home in Leith.", "where does my mother live?", "leith"),
    ("We're going to Crete in summer.", "where do we go in summer?", "crete"),
    ("I'm learning to sail.", "which sport do I learn?", "sail"),
    ("The fuse box is behind the coats in the hall.", "where is the fuse box?", "hall"),
    ("My blood group is A negative.", "what is my blood type?", "negative"),
    ("I don't eat meat.", "do I eat meat?", "meat"),
    ("My husband is a baker.", "what does my husband do?", "baker"),
    ("I've got two kids, Mia and Leo.", "what are my children called?", "mia"),
    ("My user name is svensson.", "what is my user name?", "svensson"),
    ("I speak Swedish and some Polish.", "which languages do I speak?", "polish"),
]
NOTHING = [
    ["Hello there.", "How are you?", "Fine, thanks."],
    ["What is the capital of Norway?", "And of Sweden?", "Thanks."],
    ["Tell me a joke.", "Another one please.", "That was bad."],
    ["It is cold today.", "Will there be rain?"],
    ["Set a timer for ten minutes.", "Make it twelve."],
    ["Explain how a dam works.", "I don't get it.", "Ah, now it is clear."],
    ["Write a poem about snow.", "Make it shorter.", "Lovely, thank you."],
    ["What did I tell you about my car?", "Never mind."],
    ["Do you remember my name?", "Okay."],
    ["Spain won the cup that year.", "Who scored?"],
    ["Play some jazz.", "Louder.", "Stop."],
    ["Check the disk of the server.", "And the memory.", "Good."],
    ["I think that is wrong.", "Try again."],
    ["You are funny.", "Good night."],
    ["How do I cook rice?", "How long?", "Thanks a lot."],
    ["Translate good morning into French.", "And into Italian?"],
    ["Let's play a game.", "I guess forty two."],
    ["Mount Everest is the highest mountain.", "How high is it?"],
    ["Here I am again.", "What time is it?"],
    ["Open the news.", "Read the first one.", "Enough."],
    ["Say that again, please.", "I can hear you now."],
    ["Tell me about the moon.", "How far is it away?"],
]
SMALL = [["Good morning."], ["Hello, are you there?"], ["What is ten times ten?"], ["Tell me something nice."], ["The evening is nearly over."]]
AFTER = [["Thanks."], ["How high is the Matterhorn?"], ["That's all for now."], ["Tell me a joke."], ["What is the time?"]]


def main():
    dialogues = []
    for i, (statement, question, answer) in enumerate(SAID):
        turns = SMALL[i % len(SMALL)] + [statement] + AFTER[i * 3 % len(AFTER)]
        dialogues.append({"turns": turns, "keep": [statement], "ask": question, "answer": answer})
    dialogues += [{"turns": turns, "keep": []} for turns in NOTHING]
    path = pathlib.Path(__file__).with_name("dialogues.json")
    path.write_text(json.dumps(dialogues, indent=1) + "\n")
    print(len(dialogues), "dialogues")


if __name__ == "__main__":
    main()
