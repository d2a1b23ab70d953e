"""The kinds of thing the demo shop sells, and what is looked for after each of them.

A kind is the lower of the two category levels. ``then`` lists its complements, strongest
first; it has a direction: running shoes lead to socks, socks do not lead back.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmrec.demo_shop.vocabulary import (
    AUDIENCES,
    BRANDS,
    COLOURS,
    MOTIONS,
    OCCASIONS,
    PATTERNS,
    SEASONS,
    STYLES,
)


@dataclass(frozen=True)
class ProductKind:
    """One kind of thing.

    Attributes:
        group: the upper category level.
        words: what titles call it; the first is its name.
        price: usual price.
        then: names of complements, strongest first.
        plural: whether the words are plural ("jeans"), for the grammar of descriptions.
    """

    name: str
    group: str
    domain: str
    words: tuple[str, ...]
    materials: tuple[str, ...]
    shapes: tuple[str, ...]
    price: float
    seasons: tuple[str, ...]
    occasions: tuple[str, ...]
    audiences: tuple[str, ...]
    then: tuple[str, str, str]
    styles: tuple[str, ...]
    colours: tuple[str, ...]
    plural: bool


_HOME = {"Kitchen", "Living room", "Bedroom", "Bathroom", "Garden"}  # the other groups are worn
_STYLES = {
    "clothing": ("minimal", "classic", "sporty", "bohemian", "romantic", "street"),
    "home": ("minimal", "classic", "bohemian", "romantic", "street"),
}
_DENIM = ("blue", "navy", "black", "grey", "white")
_WARM = ("summer", "spring")
_COLD = ("winter", "autumn")
_ALL = ("all year",)
_ADULTS = ("women", "men")
_WOMEN = ("women",)
_PEOPLE = ("women", "men", "everyone", "kids")


def _kind(
    words: str,
    group: str,
    price: float,
    then: str,
    materials: str,
    shapes: str,
    *,
    seasons: tuple[str, ...] = _ALL,
    occasions: str = "everyday",
    audiences: tuple[str, ...] | None = None,
    styles: tuple[str, ...] | None = None,
    colours: tuple[str, ...] | None = None,
    plural: bool = False,
) -> ProductKind:
    """A row of the table below; lists are written with commas."""
    named = tuple(words.split(","))
    first, second, third = then.split(",")
    domain = "home" if group in _HOME else "clothing"
    return ProductKind(
        name=named[0],
        group=group,
        domain=domain,
        words=named,
        materials=tuple(materials.split(",")),
        shapes=tuple(shapes.split(",")),
        price=price,
        seasons=seasons,
        occasions=tuple(occasions.split(",")),
        audiences=audiences or (_PEOPLE if domain == "clothing" else ("everyone",)),
        then=(first, second, third),
        styles=styles or _STYLES[domain],
        colours=colours or tuple(COLOURS),
        plural=plural,
    )


# fmt: off
KINDS: tuple[ProductKind, ...] = (
    _kind("t-shirt,tee,short-sleeved top", "Tops", 18, "jeans,shorts,sneakers",
          "cotton,linen,jersey", "crew neck,v-neck,boxy",
          seasons=("summer", "spring", "all year"), occasions="everyday,sport"),
    _kind("shirt,button-up,button-down", "Tops", 38, "trousers,belt,sweater",
          "cotton,linen,flannel", "regular,slim,oversized",
          occasions="office,everyday,party", audiences=_ADULTS),
    _kind("blouse,flowing top,dressy top", "Tops", 36, "skirt,trousers,handbag",
          "silk,viscose,cotton", "wrap,loose,fitted", seasons=("spring", "all year"),
          occasions="office,party", audiences=_WOMEN),
    _kind("sweater,jumper,pullover,knit", "Tops", 52, "jeans,scarf,winter coat",
          "wool,cashmere,cotton", "crew neck,roll neck,cable knit", seasons=_COLD,
          occasions="everyday,office,relaxing"),
    _kind("hoodie,hooded sweatshirt,hooded top", "Tops", 42, "joggers,sneakers,backpack",
          "cotton,fleece,jersey", "pullover,zipped,cropped", seasons=("autumn", "all year"),
          occasions="everyday,sport,travel", styles=("sporty", "street", "minimal")),
    _kind("jeans,denims,denim trousers", "Bottoms", 58, "belt,boots,denim jacket",
          "denim,stretch denim", "straight,skinny,wide leg", colours=_DENIM,
          occasions="everyday,party", plural=True),
    _kind("trousers,chinos,slacks", "Bottoms", 50, "belt,boots,blouse",
          "cotton,wool,linen", "straight,pleated,tapered",
          occasions="office,everyday", audiences=_ADULTS, plural=True),
    _kind("skirt,midi skirt,a-line skirt", "Bottoms", 40, "sandals,handbag,t-shirt",
          "cotton,viscose,wool", "a-line,pencil,pleated", seasons=("spring", "summer"),
          occasions="office,party,everyday", audiences=_WOMEN),
    _kind("shorts,short trousers,bermudas", "Bottoms", 28, "sandals,sun hat,t-shirt",
          "cotton,linen,denim", "loose,fitted,cargo", seasons=("summer",),
          occasions="everyday,sport,travel", plural=True),
    _kind("joggers,sweatpants,track pants", "Bottoms", 36, "running shoes,hoodie,water bottle",
          "cotton,fleece,polyester", "tapered,loose,cuffed", occasions="sport,relaxing",
          styles=("sporty", "street", "minimal"), plural=True),
    _kind("summer dress,sundress,beach dress", "Dresses", 48, "sandals,sun hat,handbag",
          "cotton,linen,viscose", "a-line,wrap,maxi", seasons=("summer", "spring"),
          occasions="everyday,travel,party", audiences=("women", "women", "kids")),
    _kind("evening dress,cocktail dress,party dress", "Dresses", 95, "handbag,scarf,candle",
          "silk,satin,velvet", "sheath,maxi,wrap", seasons=("winter", "all year"),
          occasions="party", audiences=_WOMEN, styles=("minimal", "classic", "romantic")),
    _kind("winter coat,parka,overcoat", "Outerwear", 140, "scarf,gloves,beanie",
          "wool,down,polyester", "long,short,belted", seasons=("winter",),
          occasions="everyday,office,travel"),
    _kind("rain jacket,raincoat,waterproof", "Outerwear", 85, "umbrella,boots,backpack",
          "polyester,nylon,waxed cotton", "long,short,hooded", seasons=("autumn", "spring"),
          occasions="travel,sport,everyday"),
    _kind("denim jacket,jean jacket,trucker jacket", "Outerwear", 68,
          "t-shirt,sunglasses,backpack", "denim,stretch denim", "cropped,boxy,regular",
          colours=_DENIM, seasons=("spring", "autumn")),
    _kind("running shoes,trainers,runners", "Shoes", 98, "socks,water bottle,shorts",
          "mesh,knit,synthetic", "low,cushioned,trail", occasions="sport",
          styles=("sporty", "street", "minimal"), plural=True),
    _kind("sneakers,low-tops,plimsolls", "Shoes", 70, "socks,hoodie,jeans",
          "canvas,leather,suede", "low,high top,slip-on", occasions="everyday,travel",
          plural=True),
    _kind("boots,ankle boots,lace-up boots", "Shoes", 120, "socks,winter coat,gloves",
          "leather,suede,rubber", "ankle,chelsea,knee high", seasons=_COLD,
          occasions="everyday,office,travel", plural=True),
    _kind("sandals,strappy sandals,slides", "Shoes", 45, "sunglasses,summer dress,towel",
          "leather,rubber,cork", "flat,strappy,platform", seasons=("summer",),
          occasions="everyday,travel", plural=True),
    _kind("socks,ankle socks,crew socks", "Accessories", 9, "pyjamas,running shoes,joggers",
          "cotton,wool,bamboo", "ankle,crew,knee", occasions="everyday,sport", plural=True),
    _kind("scarf,shawl,wrap", "Accessories", 28, "beanie,gloves,sweater",
          "wool,cashmere,silk", "long,square,infinity", seasons=_COLD,
          occasions="everyday,office,party"),
    _kind("beanie,knit hat,woolly hat", "Accessories", 19, "gloves,hoodie,throw blanket",
          "wool,acrylic,cashmere", "cuffed,slouchy,pompom", seasons=("winter",)),
    _kind("gloves,mittens,knit gloves", "Accessories", 24, "umbrella,mug,winter coat",
          "wool,leather,fleece", "five finger,mitten,fingerless", seasons=("winter",),
          plural=True),
    _kind("belt,waist belt,buckle belt", "Accessories", 26, "shirt,sunglasses,trousers",
          "leather,canvas,suede", "narrow,wide,braided",
          occasions="office,everyday", audiences=_ADULTS),
    _kind("sun hat,straw hat,wide-brimmed hat", "Accessories", 25, "sunglasses,towel,shorts",
          "straw,cotton,raffia", "wide brim,bucket,visor", seasons=("summer",),
          occasions="travel,everyday"),
    _kind("sunglasses,shades,sunnies", "Accessories", 32, "sun hat,backpack,summer dress",
          "acetate,metal,bamboo", "round,square,cat eye", seasons=_WARM,
          occasions="travel,everyday", plural=True),
    _kind("handbag,shoulder bag,purse", "Accessories", 75, "evening dress,umbrella,sunglasses",
          "leather,canvas,suede", "tote,crossbody,clutch", occasions="office,party,everyday",
          audiences=("women", "women", "everyone")),
    _kind("backpack,rucksack,daypack", "Accessories", 62, "water bottle,rain jacket,socks",
          "nylon,canvas,leather", "rolltop,square,slim", occasions="travel,office,sport",
          audiences=("everyone", "everyone", "kids")),
    _kind("umbrella,brolly,rain umbrella", "Accessories", 22, "rain jacket,handbag,bath mat",
          "polyester,nylon", "folding,dome,walking", seasons=("autumn", "spring"),
          audiences=("everyone",)),
    _kind("pyjamas,pajamas,sleep set", "Nightwear", 40, "bathrobe,duvet cover,mug",
          "cotton,flannel,satin", "buttoned,loose,short", seasons=("winter", "all year"),
          occasions="relaxing", plural=True),
    _kind("bathrobe,dressing gown,robe", "Nightwear", 48, "towel,candle,pyjamas",
          "cotton,fleece,waffle cotton", "hooded,shawl collar,kimono", seasons=_COLD,
          occasions="relaxing", audiences=_ADULTS),
    _kind("mug,coffee cup,tea mug", "Kitchen", 12, "teapot,bowl,cushion",
          "stoneware,porcelain,enamel", "tall,round,tapered", occasions="everyday,relaxing"),
    _kind("teapot,tea kettle,brewing pot", "Kitchen", 38, "plate,mug,candle",
          "stoneware,porcelain,cast iron", "round,tall,squat", seasons=("autumn", "all year"),
          occasions="relaxing,dining"),
    _kind("plate,dinner plate,serving plate", "Kitchen", 14, "bowl,frying pan,vase",
          "stoneware,porcelain,glass", "round,square,oval", occasions="dining,everyday"),
    _kind("bowl,serving bowl,salad bowl", "Kitchen", 16, "apron,plate,plant pot",
          "stoneware,wood,glass", "deep,shallow,footed", occasions="dining,everyday"),
    _kind("frying pan,skillet,saute pan", "Kitchen", 46, "apron,plate,bowl",
          "cast iron,steel,aluminium", "round,deep,square", occasions="dining,everyday"),
    _kind("apron,kitchen apron,cook's apron", "Kitchen", 24, "frying pan,mug,watering can",
          "cotton,linen,canvas", "bib,waist,cross-back", occasions="dining"),
    _kind("water bottle,drinks bottle,flask", "Kitchen", 22, "backpack,running shoes,mug",
          "steel,glass,aluminium", "slim,wide,handled", seasons=("summer", "all year"),
          occasions="sport,travel", styles=("sporty", "street", "minimal")),
    _kind("cushion,throw pillow,scatter cushion", "Living room", 26, "throw blanket,rug,pillowcase",
          "cotton,velvet,linen", "square,round,oblong", occasions="relaxing"),
    _kind("throw blanket,sofa throw,blanket", "Living room", 45, "candle,table lamp,cushion",
          "wool,cotton,fleece", "fringed,quilted,woven", seasons=_COLD, occasions="relaxing"),
    _kind("table lamp,desk lamp,bedside lamp", "Living room", 64, "rug,vase,duvet cover",
          "ceramic,metal,wood", "globe,cone,drum", seasons=("winter", "all year"),
          occasions="relaxing,office"),
    _kind("vase,flower vase,bud vase", "Living room", 30, "candle,plant pot,table lamp",
          "glass,ceramic,stoneware", "tall,round,bottle", seasons=("spring", "all year"),
          occasions="dining,everyday"),
    _kind("rug,carpet,floor rug", "Living room", 130, "cushion,table lamp,bath mat",
          "wool,jute,cotton", "rectangular,round,runner", occasions="relaxing,everyday"),
    _kind("candle,scented candle,wax candle", "Living room", 20, "vase,bathrobe,throw blanket",
          "soy wax,beeswax,rapeseed wax", "pillar,jar,taper", seasons=("winter", "all year"),
          occasions="relaxing,dining"),
    _kind("duvet cover,quilt cover,comforter cover", "Bedroom", 72, "pillowcase,table lamp,pyjamas",
          "cotton,linen,flannel", "single,double,king", occasions="relaxing"),
    _kind("pillowcase,pillow cover,pillow slip", "Bedroom", 18, "duvet cover,cushion,bathrobe",
          "cotton,linen,silk", "square,oblong,ruffled", occasions="relaxing"),
    _kind("towel,bath towel,beach towel", "Bathroom", 24, "bath mat,bathrobe,water bottle",
          "cotton,waffle cotton,bamboo", "large,hand,round", seasons=("summer", "all year"),
          occasions="everyday,travel"),
    _kind("bath mat,bathroom mat,shower mat", "Bathroom", 26, "towel,plant pot,candle",
          "cotton,bamboo,jute", "rectangular,round,oval", occasions="everyday"),
    _kind("plant pot,planter,flower pot", "Garden", 28, "watering can,vase,rug",
          "terracotta,ceramic,concrete", "round,square,hanging", seasons=("spring", "all year"),
          occasions="everyday"),
    _kind("watering can,plant waterer,garden can", "Garden", 32, "plant pot,sun hat,gloves",
          "metal,zinc,plastic", "long spout,round,classic", seasons=("spring", "summer"),
          occasions="everyday"),
)
# fmt: on

KIND_INDEX = {kind.name: row for row, kind in enumerate(KINDS)}
# What each field of an item may be, in the order of its codes.
FIELD_VALUES: dict[str, tuple[str, ...]] = {
    "kind": tuple(KIND_INDEX),
    "brand": tuple(brand.name for brand in BRANDS),
    "domain": ("clothing", "home"),
    "colour": tuple(COLOURS),
    "pattern": tuple(PATTERNS),
    "material": tuple(sorted({material for kind in KINDS for material in kind.materials})),
    "style": tuple(STYLES),
    "occasion": tuple(OCCASIONS),
    "season": tuple(SEASONS),
    "audience": AUDIENCES,
    "motion": MOTIONS,
}
