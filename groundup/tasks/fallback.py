"""Small word lists and verses of our own, so that the tasks work on any corpus, or on none.

``material`` prefers what occurs in the corpus, because a small model knows those tokens; what is
missing is filled from here.
"""


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Common words of three to eight letters.
COMMON_WORDS = _listed(
    """
    about above after again air alone always among angel answer apple arm army ask away back ball bank bear
    beauty bed begin behind bell below bird bitter black blood blue boat body book bottle bottom branch brave bread
    break bridge bright bring brother brown build burn butter call candle carry castle chair change child church
    circle city clean clear clock close cloud coast cold colour come common copper corner cotton country cousin
    cover cross crowd crown cry cup dance danger dark daughter day dead dear deep desire dinner dog door double
    dream dress drink dust ear early earth east easy eight empty end enemy engine evening ever eye face fair fall
    false family far farm father fear feather field fight finger fire first fish flame flat floor flower fly fold
    follow food foot force forest forget form forty four fox free fresh friend front fruit full future garden
    gate gentle girl give glass glove gold good grain grass gray great green ground grow guest hair half hammer
    hand happy harbour hard harvest hat head heart heavy high hill hold hollow honest honey hope horse hour
    house hundred husband ice iron island jewel journey judge kettle key kind king kiss kitchen knee knife
    knock know ladder lady lake lamp land large laugh law lead leaf learn leather left lemon length letter light
    lion list little long lord loss loud love lucky make map market master meadow meal measure meat memory middle
    milk mind minute mirror money month moon morning mother mountain mouse mouth music nail name narrow nation
    neck need needle nest never night noble noise noon north nose number ocean offer office often old onion
    open orange order other oven page paint pair paper parent part past path peace pencil pepper person picture
    pin place plain plant plate play please pocket point poor potato power price prince promise proud pull
    purple purpose queen question quick quiet rabbit rain rather reach read ready reason red rest rice rich ring
    river road roof room root rope rose round run sad safe sail salt sand school sea season second secret seed
    seven shadow shape sheep shell ship shirt shoe short shoulder silence silver simple sing sister skin sky
    sleep slow small smile smoke snow soft soldier song sorrow sound south spoon spring square stable star
    station steel step still stomach stone stop storm story street strong sudden sugar summer sun supper sweet
    sword table tail tall teacher tender thick thing thought thread three throat thunder ticket tiger time
    together tongue tooth tower town trade travel tree trouble true trust turn twenty uncle under valley velvet
    village violet voice wagon wall warm wash watch water wave weather week weight welcome west wheel whisper
    white wide wife wild window winter wisdom wise woman wonder wood wool word work world write yard year
    yellow young
    """
)

#: Given names, many of which occur in English drama and fiction.
NAMES = _listed(
    """
    Adam Adrian Agnes Alice Andrew Angelo Anna Anne Anthony Antonio Antony Arthur Beatrice Benedick Bianca Brutus
    Cassio Catherine Celia Charles Clara Claudio Daniel David Diana Edgar Edmund Edward Eleanor Elizabeth Emilia
    Emma Francis George Grace Hamlet Hannah Hector Helen Helena Henry Hermia Horatio Hubert Hugh Humphrey Isabel
    Jack James Jane Jessica John Juliet Julia Kate Laura Lewis Lorenzo Lucy Lucius Luke Marcus Margaret Maria
    Mariana Marina Martin Mary Michael Nathan Nell Nicholas Oliver Olivia Orlando Paul Peter Philip Phoebe Portia
    Rachel Ralph Richard Robert Robin Romeo Rosalind Rose Ruth Samuel Sarah Sebastian Silvia Simon Stephen Susan
    Thomas Timothy Toby Ursula Victor Viola Walter William
    """
)

#: Things that a person can keep, find or bring; each takes "the".
THINGS = _listed(
    """
    apple bag ball basket bell boat book bottle bow box bread candle chain chair chest cloak coat coin crown cup
    dagger drum feather flag flower glass glove hammer hat helmet horn horse jewel key knife ladder lamp letter
    mantle map mirror needle paper pearl pen picture pipe plate purse ring robe rope rose saddle shield shoe spoon
    staff stone sword table torch veil
    """
)

COLOURS = _listed("black blue brown gold gray green orange pink purple red silver violet white yellow")

_POEMS = """
The rain came down upon the hill,
And all the little lanes were still;
The miller closed his heavy door,
And heard the river rise and roar.

A lantern hung above the gate
To guide the ones who wandered late;
It burned until the break of day,
And then the warden went away.

The kettle sang, the cat lay warm,
And nobody could mind the storm;
We told old stories, one by one,
Until the last of them was done.

My brother built a boat of pine
And tied it with a fishing line;
It crossed the pond, it crossed the bay,
And no one knows it sailed away.

The baker rose before the light,
His apron and his hands were white;
He baked the bread, he swept the floor,
And set the loaves beside the door.

Go ask the shepherd where he slept,
And ask the dog what watch he kept;
The sheep are counted, every one,
And now they wander in the sun.

The clock has stopped at ten past three,
The wind is in the apple tree;
A letter waits upon the chair
For someone who is never there.

Seven ships set out in spring
To bring a present for the king;
Six of them came home with gold,
And one came home with tales untold.

The winter laid a sheet of glass
On every stone and blade of grass;
The children slid from end to end
And each one fell upon a friend.

I planted beans along the wall,
The summer sun grew hot and tall;
The beans went up, the flowers came,
And every flower had a name.

The fiddler played a simple tune
Beneath the thin and early moon;
The old men tapped, the children turned,
And low and red the embers burned.

A candle and a book for me,
A window looking to the sea;
The page is turned, the tide is high,
And slow the evening ships go by.
"""

#: Poems of four lines each; ``Material`` takes the beginning of each.
VERSES = tuple(tuple(poem.splitlines()) for poem in _POEMS.strip().split("\n\n"))
