"""The words of the generated shop: what shoppers say, what the trade says, and what products are made of.

A shopper's word and the trade's word for the same thing share no stem, so a search for the one does not find the
other. Every phrase of one domain is clearly different from the others in it, so the reward's fuzzy match (ratio > 85)
never takes one for another.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A type of product.

    Attributes:
        lay: what shoppers call it; trade: what titles call it (all of it nouns).
        shelf: its last two category levels.
        accessory: what is sold *for* it; titles of accessories use the shopper's word.
        price: lowest and highest usual price in dollars.
    """

    lay: str
    trade: str
    shelf: str
    accessory: str
    price: tuple[float, float]


class Domain(NamedTuple):
    """A broad category.

    Attributes:
        name: as in the published data.
        department: its first category level.
        kinds: its product types.
        attributes: (shopper's phrase, trade phrase) pairs.
        options: (option name, values); a product has one or two of them with some of the values.
        brands: invented names.
    """

    name: str
    department: str
    kinds: tuple[Kind, ...]
    attributes: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    brands: tuple[str, ...]


BEAUTY = Domain(
    "beauty",
    "Beauty & Personal Care",
    (
        Kind("face wash", "facial cleanser", "Skin Care › Cleansers", "brush", (8, 70)),
        Kind("lip paint", "velvet lipstick", "Makeup › Lipsticks", "sharpener", (7, 60)),
        Kind("hair soap", "clarifying shampoo", "Hair Care › Shampoos", "dispenser", (8, 80)),
        Kind("perfume", "eau toilette", "Fragrance › Sprays", "funnel", (15, 190)),
        Kind("nail paint", "gel lacquer", "Nail Care › Lacquers", "rack", (6, 55)),
        Kind("eye makeup box", "shadow palette", "Makeup › Palettes", "mirror", (10, 90)),
        Kind("sun cream", "mineral sunscreen", "Sun Care › Sunscreens", "pouch", (9, 75)),
        Kind("wrinkle cream", "retinol serum", "Skin Care › Serums", "spatula", (14, 160)),
        Kind("body scrub", "sugar exfoliant", "Bath › Exfoliants", "glove", (8, 65)),
        Kind("beard trimmer", "cordless clipper", "Shaving › Clippers", "blade", (18, 170)),
    ),
    (
        ("animal friendly", "cruelty free"),
        ("gentle touch", "hypoallergenic"),
        ("no smell", "fragrance free"),
        ("lasts all day", "24 hour hold"),
        ("made from plants", "vegan botanical"),
        ("no harsh chemicals", "paraben free"),
        ("moisture boost", "deeply hydrating"),
        ("shiny finish", "high gloss"),
        ("fits carry on", "tsa approved mini"),
        ("brighter looks", "vitamin c radiance"),
        ("pimple control", "acne clearing salicylic"),
        ("younger looking", "peptide firming"),
        ("pool safe", "sweat resistant"),
        ("less waste", "refillable cartridge"),
    ),
    (
        ("color", ("ruby", "coral", "mauve", "ivory", "bronze", "plum")),
        ("scent", ("lavender", "citrus", "vanilla", "jasmine", "cucumber")),
        ("size", ("1 ounce", "4 fl oz", "250 ml", "half liter", "jumbo tub")),
    ),
    ("Lumora", "Velouria", "Dermique", "Solenne", "Pureva", "Belisse", "Oravie", "Glowell"),
)

ELECTRONICS = Domain(
    "electronics",
    "Electronics",
    (
        Kind("earphones", "monitor earbuds", "Audio › Earbuds", "pouch", (15, 220)),
        Kind("phone charger", "usb adapter", "Power › Adapters", "stand", (9, 90)),
        Kind("tv stick", "media streamer", "Video › Streamers", "extender", (20, 180)),
        Kind("music box", "soundbar woofer", "Audio › Soundbars", "bracket", (25, 400)),
        Kind("doorbell camera", "video intercom", "Security › Intercoms", "wedge", (30, 320)),
        Kind("computer screen", "lcd monitor", "Displays › Monitors", "hood", (80, 700)),
        Kind("spare battery", "power bank", "Power › Banks", "sleeve", (15, 140)),
        Kind("movie projector", "cinema beamer", "Video › Beamers", "tripod", (60, 650)),
        Kind("fitness watch", "activity tracker", "Wearables › Trackers", "strap", (20, 260)),
        Kind("memory stick", "flash drive", "Storage › Drives", "lanyard", (8, 120)),
    ),
    (
        ("runs for days", "5000mah endurance"),
        ("refuels quickly", "fast charging"),
        ("rain safe", "ipx7 waterproof"),
        ("blocks outside noise", "anc isolation"),
        ("obeys your voice", "alexa compatible"),
        ("no cord", "bluetooth wireless"),
        ("very sharp picture", "4k uhd"),
        ("pocket sized", "ultra compact"),
        ("survives drops", "shockproof armor"),
        ("simple start", "plug and play"),
        ("saves electricity", "energy star"),
        ("booming low notes", "subwoofer driver"),
        ("kid lock", "parental control"),
        ("sees in darkness", "infrared vision"),
    ),
    (
        ("color", ("black", "silver", "teal", "rose gold", "graphite", "white")),
        ("capacity", ("32gb", "128gb", "512gb", "one terabyte")),
        ("style", ("basic edition", "pro bundle", "travel kit", "twin set")),
    ),
    ("Voltane", "Zyntek", "Auralink", "Pixora", "Kinetra", "Omnivox", "Datahaus", "Novatron"),
)

GARDEN = Domain(
    "garden",
    "Home & Kitchen",
    (
        Kind("couch", "sofa loveseat", "Furniture › Sofas", "cover", (120, 900)),
        Kind("night stand", "bedside table", "Furniture › Tables", "tray", (40, 320)),
        Kind("window drapes", "blackout curtain", "Textiles › Curtains", "hook", (15, 130)),
        Kind("floor carpet", "area rug", "Textiles › Rugs", "gripper", (30, 420)),
        Kind("reading light", "task lamp", "Lighting › Lamps", "bulb", (18, 190)),
        Kind("bed blanket", "duvet quilt", "Bedding › Quilts", "bag", (30, 260)),
        Kind("shelf", "bookcase etagere", "Furniture › Bookcases", "bracket", (45, 480)),
        Kind("yard chair", "patio recliner", "Outdoor › Recliners", "cushion", (40, 380)),
        Kind("flower pot", "ceramic planter", "Outdoor › Planters", "saucer", (10, 110)),
        Kind("water hose", "irrigation reel", "Outdoor › Irrigation", "nozzle", (20, 160)),
    ),
    (
        ("cleans up simply", "wipeable surface"),
        ("no tools needed", "snap together assembly"),
        ("weather safe", "uv resistant"),
        ("real timber", "solid acacia wood"),
        ("hides stains", "performance fabric"),
        ("saves room", "foldable"),
        ("extra sturdy", "heavy duty steel"),
        ("cat proof", "scratch resistant"),
        ("old country look", "farmhouse rustic"),
        ("cozy feel", "plush microfiber"),
        ("stays cool", "breathable bamboo"),
        ("never rusts", "powder coated"),
        ("hidden storage", "lift top compartment"),
        ("safe around babies", "greenguard certified"),
    ),
    (
        ("color", ("beige", "charcoal", "navy", "sage", "walnut", "terracotta")),
        ("size", ("twin", "queen", "king", "oversized")),
        ("pattern", ("striped", "paisley", "gingham", "geometric")),
    ),
    ("Hearthly", "Oakenby", "Terravie", "Nordhem", "Casalune", "Willowick", "Domara", "Fernhaus"),
)

FASHION = Domain(
    "fashion",
    "Clothing, Shoes & Jewelry",
    (
        Kind("sneakers", "running trainers", "Shoes › Trainers", "laces", (25, 210)),
        Kind("rain coat", "shell jacket", "Outerwear › Jackets", "patch", (30, 280)),
        Kind("sweatshirt", "fleece pullover", "Tops › Pullovers", "pin", (15, 120)),
        Kind("gym pants", "athletic joggers", "Bottoms › Joggers", "drawstring", (15, 110)),
        Kind("dress shirt", "oxford button", "Tops › Oxfords", "collar stay", (18, 130)),
        Kind("evening gown", "maxi sheath", "Dresses › Maxis", "garment bag", (40, 420)),
        Kind("winter hat", "knit beanie", "Accessories › Beanies", "pompom", (8, 70)),
        Kind("shoulder purse", "crossbody tote", "Handbags › Totes", "chain", (20, 310)),
        Kind("swim suit", "bikini tankini", "Swimwear › Tankinis", "wet bag", (15, 140)),
        Kind("pajamas", "nightwear loungewear", "Sleepwear › Loungewear", "hanger", (16, 130)),
    ),
    (
        ("stretchy feel", "spandex blend"),
        ("keeps you warm", "thermal lined"),
        ("dries fast", "moisture wicking"),
        ("roomy cut", "relaxed fit"),
        ("no ironing", "wrinkle resistant"),
        ("simple laundry", "machine washable"),
        ("grippy bottom", "rubber outsole"),
        ("many pockets", "cargo utility"),
        ("office ready", "business casual"),
        ("closes snugly", "full zip"),
        ("natural fiber", "organic cotton"),
        ("barely weighs anything", "ultralight nylon"),
        ("made by hand", "artisan crafted"),
        ("glows at night", "reflective trim"),
    ),
    (
        ("color", ("burgundy", "olive", "black", "sky blue", "mustard", "lilac")),
        ("size", ("small", "medium", "large", "plus")),
        ("length", ("cropped", "regular", "tall")),
    ),
    ("Marlowe", "Vestiva", "Threadwell", "Castelline", "Rovana", "Arden", "Sartelle", "Kestrel"),
)

GROCERY = Domain(
    "grocery",
    "Grocery & Gourmet Food",
    (
        Kind("candy", "gummy confectionery", "Sweets › Gummies", "jar", (5, 60)),
        Kind("coffee", "arabica espresso", "Beverages › Espresso", "scoop", (9, 95)),
        Kind("chips", "tortilla crisps", "Snacks › Crisps", "clip", (5, 55)),
        Kind("energy snack", "granola bar", "Snacks › Bars", "tin", (8, 70)),
        Kind("pasta sauce", "marinara ragu", "Pantry › Ragu", "ladle", (6, 60)),
        Kind("tea", "oolong infusion", "Beverages › Infusions", "strainer", (6, 85)),
        Kind("cookies", "shortbread biscuits", "Bakery › Biscuits", "cutter", (5, 65)),
        Kind("nut mix", "cashew almonds", "Snacks › Almonds", "bowl", (8, 80)),
        Kind("pancake mix", "buttermilk batter", "Pantry › Batters", "griddle", (6, 50)),
        Kind("meat snack", "beef jerky", "Snacks › Jerky", "rack", (8, 90)),
    ),
    (
        ("no wheat", "gluten free"),
        ("nothing sweet added", "zero sugar"),
        ("no milk", "lactose free"),
        ("farm grown naturally", "usda organic"),
        ("barely salted", "reduced sodium"),
        ("low carb diet", "keto certified"),
        ("builds muscle", "high protein"),
        ("good for digestion", "prebiotic fiber"),
        ("small batch", "handcrafted gourmet"),
        ("no lab crops", "non gmo"),
        ("rabbi approved", "ou kosher"),
        ("single portions", "individually wrapped"),
        ("pays growers well", "fair trade"),
        ("extra crunchy", "double toasted"),
    ),
    (
        ("flavor name", ("honey", "cinnamon", "sea salt", "hazelnut", "mango", "smoky chili")),
        ("size", ("8 ounce", "one pound", "5 kilogram", "family sack")),
        ("package", ("single", "pack of 6", "gift box", "case of 24")),
    ),
    ("Harvestia", "Brambleby", "Saborel", "Mesafina", "Goldcrumb", "Tierra", "Dulcora", "Pantrelle"),
)

DOMAINS: tuple[Domain, ...] = (BEAUTY, ELECTRONICS, GARDEN, FASHION, GROCERY)

MODELS: tuple[str, ...] = (
    *("Aria", "Nova", "Cresta", "Vega", "Onyx", "Juno", "Halo", "Ember", "Lyra", "Orbit", "Sierra", "Tempo"),
    *("Atlas", "Breva", "Cobalt", "Delta", "Echo", "Fable", "Gala", "Indra", "Kodiak", "Luma", "Mira", "Nimbus"),
)

# Words of trade phrases that are no nouns, for the title's list of nouns.
ADJECTIVES = frozenset(
    "free hypoallergenic vegan deeply hydrating high approved clearing firming resistant refillable fast charging "
    "waterproof compatible wireless ultra compact shockproof and parental infrared wipeable solid foldable heavy plush "
    "breathable coated together certified lined wicking relaxed washable casual full organic ultralight crafted "
    "reflective clarifying cordless running athletic zero reduced handcrafted gourmet individually wrapped fair double "
    "toasted non prebiotic thermal rustic machine".split()
)
