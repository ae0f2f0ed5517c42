"""Vocabulary that the families draw from."""

# ruff: noqa: SIM905

NAMES = (
    "Anna Ben Clara David Emma Felix Grace Hugo Ida Jack Kate Leo Mia Nora Oscar Paul Rosa Sam "
    "Tina Victor Wendy Zoe Adam Bella Carl Diana Eric Fiona George Helen Ivan Julia Karl Lucy Max "
    "Nina Omar Peter Rita Simon Tom Vera Will Alice Bruno Cora Dean Eva"
).split()

WORDS = (
    "apple bread chair dance earth flame grape house island jacket kettle lemon mango night ocean "
    "paper queen river stone table under violet water yellow zebra cat dog sun moon star tree leaf "
    "rock sand wind rain snow fire boat ship road door wall roof lamp book page word song drum "
    "horn bell fish bird frog bear wolf lion tiger horse sheep goat duck goose snake mouse rabbit "
    "carrot potato tomato onion pepper garlic butter cheese honey sugar salt milk coffee cream "
    "cookie candle mirror window garden flower forest desert valley meadow bridge castle tower "
    "market school letter number pencil marker button needle thread hammer ladder shovel bucket "
    "basket bottle copper silver golden purple orange green brown white black finger elbow "
    "shoulder summer winter spring autumn morning evening dinner lunch train plane rocket engine "
    "wheel street corner circle square guitar violin trumpet doctor farmer baker singer painter "
    "writer pilot sailor soccer tennis hockey puzzle riddle story poem novel museum gallery camera "
    "picture radio planet comet desk clock spoon fork plate glass knife towel pillow blanket carpet"
).split()

ITEMS = (
    "apple banana lemon melon cherry plum pear peach mango grape carrot onion potato tomato bean "
    "cup plate spoon fork knife book pen pencil ruler lamp chair table sofa clock phone key coin "
    "hat coat scarf glove shoe boot sock belt ball kite drum bell rope map"
).split()

# items whose plural takes a plain s
COUNTED = (
    "apple banana lemon plum pear mango grape carrot onion bean cup plate spoon fork book pen pencil "
    "ruler lamp chair key coin hat coat glove shoe boot sock ball kite drum bell map"
).split()

COLOURS = "red blue green yellow black white brown pink grey orange purple silver".split()
PLACES = (
    "kitchen garden garage office library cellar hall attic school market station museum bakery "
    "harbour stable"
).split()
CITIES = (
    "Paris Rome Oslo Madrid Vienna Berlin London Dublin Lisbon Athens Prague Cairo Tokyo Delhi Lima "
    "Boston Sydney Geneva Naples Milan"
).split()
ANIMALS = "cat dog horse rabbit parrot hamster goat duck turtle pony".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
HOURS = "one two three four five six seven eight nine ten eleven twelve".split()
