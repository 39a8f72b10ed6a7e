"""Texts to compare tokenizers on, written for this project: nothing enters, ``SAMPLES`` leaves.

The prose says the same in every language, so the numbers of tokens may be compared across languages too.
"""

from collections.abc import Mapping

#: Kinds whose texts are all translations of the first one.
PARALLEL = ("prose", "other scripts")

_PROSE = {
    "English": """\
A computer does not see words; it sees numbers. Before it can read a letter from your grandmother, the letter has to \
be cut into small pieces, and each piece is given a number. Words that are used every day usually stay in one piece, \
while rare names fall apart. It matters who was listened to when the pieces were chosen: if one language needs 100 \
pieces for a page and another needs 300, then reading the second page takes three times as long, costs three times as \
much, and less of it can be remembered at once.
""",
    "German": """\
Ein Computer sieht keine Wörter, er sieht Zahlen. Bevor er einen Brief deiner Großmutter lesen kann, muss der Brief \
in kleine Stücke geschnitten werden, und jedes Stück bekommt eine Nummer. Wörter, die man jeden Tag benutzt, bleiben \
meist in einem Stück, während seltene Namen zerfallen. Es kommt darauf an, wem man zugehört hat, als die Stücke \
ausgewählt wurden: Wenn eine Sprache 100 Stücke für eine Seite braucht und eine andere 300, dann dauert das Lesen der \
zweiten Seite dreimal so lange, kostet dreimal so viel, und weniger davon kann man auf einmal behalten.
""",
    "French": """\
Un ordinateur ne voit pas de mots : il voit des nombres. Avant qu’il puisse lire une lettre de ta grand-mère, il faut \
découper la lettre en petits morceaux, et chaque morceau reçoit un numéro. Les mots que l’on emploie tous les jours \
restent en général d’un seul tenant, tandis que les noms rares se défont. Il importe de savoir qui l’on a écouté quand \
les morceaux ont été choisis : si une langue a besoin de 100 morceaux pour une page et une autre de 300, alors lire la \
seconde page prend trois fois plus de temps, coûte trois fois plus cher, et l’on peut en retenir moins à la fois.
""",
    "Spanish": """\
Un ordenador no ve palabras; ve números. Antes de que pueda leer una carta de tu abuela, hay que cortar la carta en \
trozos pequeños, y cada trozo recibe un número. Las palabras que se usan todos los días suelen quedarse en un solo \
trozo, mientras que los nombres raros se deshacen. Importa a quién se escuchó cuando se eligieron los trozos: si una \
lengua necesita 100 trozos para una página y otra necesita 300, leer la segunda página lleva el triple de tiempo, \
cuesta el triple, y se puede recordar menos de una vez.
""",
    "Turkish": """\
Bilgisayar sözcükleri görmez; sayıları görür. Büyükannenden gelen bir mektubu okuyabilmesi için önce mektubun küçük \
parçalara bölünmesi gerekir ve her parçaya bir numara verilir. Her gün kullanılan sözcükler çoğunlukla tek parça \
kalır, az rastlanan adlar ise dağılır. Parçalar seçilirken kime kulak verildiği önemlidir: bir dil bir sayfa için 100 \
parçaya, başka bir dil 300 parçaya gerek duyuyorsa, ikinci sayfayı okumak üç kat uzun sürer, üç kat pahalıya gelir ve \
bir seferde daha azı akılda tutulabilir.
""",
    "Vietnamese": """\
Máy tính không nhìn thấy từ ngữ; nó nhìn thấy những con số. Trước khi nó có thể đọc một lá thư của bà bạn, lá thư phải \
được cắt thành những mảnh nhỏ, và mỗi mảnh được gán một con số. Những từ được dùng hằng ngày thường nằm trọn trong một \
mảnh, còn những cái tên hiếm gặp thì vỡ ra. Điều quan trọng là ai đã được lắng nghe khi người ta chọn các mảnh: nếu \
một ngôn ngữ cần 100 mảnh cho một trang và một ngôn ngữ khác cần 300, thì đọc trang thứ hai mất thời gian gấp ba, tốn \
tiền gấp ba, và mỗi lần nhớ được ít hơn.
""",
}

_OTHER_SCRIPTS = {
    "Russian": """\
Компьютер не видит слов, он видит числа. Прежде чем он сможет прочитать письмо от твоей бабушки, письмо нужно \
разрезать на маленькие кусочки, и каждый кусочек получает номер. Слова, которыми пользуются каждый день, обычно \
остаются целыми, а редкие имена рассыпаются. Важно, кого слушали, когда выбирали кусочки: если одному языку нужно 100 \
кусочков на страницу, а другому 300, то чтение второй страницы длится втрое дольше, стоит втрое дороже, и запомнить за \
один раз можно меньше.
""",
    "Greek": """\
Ο υπολογιστής δεν βλέπει λέξεις· βλέπει αριθμούς. Πριν μπορέσει να διαβάσει ένα γράμμα από τη γιαγιά σου, το γράμμα \
πρέπει να κοπεί σε μικρά κομμάτια, και κάθε κομμάτι παίρνει έναν αριθμό. Οι λέξεις που χρησιμοποιούνται κάθε μέρα \
μένουν συνήθως ολόκληρες, ενώ τα σπάνια ονόματα διαλύονται. Έχει σημασία ποιον άκουσαν όταν διάλεγαν τα κομμάτια: αν \
μια γλώσσα χρειάζεται 100 κομμάτια για μια σελίδα και μια άλλη 300, τότε η ανάγνωση της δεύτερης σελίδας διαρκεί τρεις \
φορές περισσότερο, κοστίζει τρεις φορές περισσότερο, και λιγότερα μπορεί να θυμάται κανείς μονομιάς.
""",
    "Hebrew": """\
מחשב אינו רואה מילים; הוא רואה מספרים. לפני שיוכל לקרוא מכתב מסבתא שלך, צריך לחתוך את המכתב לחתיכות קטנות, וכל חתיכה \
מקבלת מספר. מילים שמשתמשים בהן בכל יום נשארות בדרך כלל בחתיכה אחת, ואילו שמות נדירים מתפרקים. חשוב למי הקשיבו כאשר \
בחרו את החתיכות: אם שפה אחת צריכה 100 חתיכות לעמוד ושפה אחרת צריכה 300, אז קריאת העמוד השני נמשכת פי שלושה זמן, עולה \
פי שלושה, ואפשר לזכור ממנו פחות בבת אחת.
""",
    "Arabic": """\
لا يرى الحاسوب كلمات، بل يرى أعدادًا. وقبل أن يستطيع قراءة رسالة من جدتك، يجب أن تُقطَّع الرسالة إلى قطع صغيرة، وأن \
تُعطى كل قطعة رقمًا. الكلمات التي تُستعمل كل يوم تبقى عادةً قطعة واحدة، أما الأسماء النادرة فتتفكك. ومن المهم أن نعرف \
إلى من استمعوا عندما اختيرت القطع: فإذا احتاجت لغة إلى 100 قطعة للصفحة واحتاجت أخرى إلى 300، فإن قراءة الصفحة الثانية \
تستغرق ثلاثة أضعاف الوقت، وتكلف ثلاثة أضعاف الثمن، ولا يمكن أن يُتذكَّر منها دفعة واحدة إلا أقل.
""",
    "Hindi": """\
कंप्यूटर शब्द नहीं देखता, वह संख्याएँ देखता है। इससे पहले कि वह आपकी दादी की चिट्ठी पढ़ सके, चिट्ठी को छोटे-छोटे टुकड़ों में काटना \
पड़ता है और हर टुकड़े को एक नंबर दिया जाता है। जो शब्द रोज़ काम आते हैं वे आम तौर पर पूरे रहते हैं, जबकि अनोखे नाम बिखर जाते \
हैं। यह मायने रखता है कि टुकड़े चुनते समय किसकी बात सुनी गई: अगर एक भाषा को एक पन्ने के लिए 100 टुकड़े चाहिए और दूसरी को 300, तो \
दूसरा पन्ना पढ़ने में तीन गुना समय लगता है, तीन गुना ख़र्च आता है, और एक बार में उसका कम हिस्सा याद रह पाता है।
""",
    "Thai": """\
คอมพิวเตอร์ไม่เห็นคำ มันเห็นตัวเลข ก่อนที่มันจะอ่านจดหมายจากคุณยายของคุณได้ จดหมายต้องถูกตัดเป็นชิ้นเล็ก ๆ \
และแต่ละชิ้นจะได้หมายเลขหนึ่ง คำที่ใช้กันทุกวันมักจะอยู่เป็นชิ้นเดียว ส่วนชื่อที่พบได้ยากจะแตกออก \
สิ่งสำคัญคือใครเป็นผู้ที่ถูกรับฟังในตอนที่เลือกชิ้นเหล่านั้น ถ้าภาษาหนึ่งต้องใช้ 100 ชิ้นต่อหน้า และอีกภาษาหนึ่งต้องใช้ 300 \
การอ่านหน้าที่สองก็จะใช้เวลานานเป็นสามเท่า เสียค่าใช้จ่ายเป็นสามเท่า และจดจำได้น้อยลงในคราวเดียว
""",
    "Chinese": """\
计算机看不见词语，它看见的是数字。在它能够读懂你奶奶的来信之前，必须先把信切成小块，并给每一块编上号码。每天都用的词通常保持\
完整，而少见的名字会被拆散。选择这些小块的时候听取了谁的话，这一点很重要：如果一种语言写一页需要100块，而另一种语言需要300块，\
那么读第二页就要花三倍的时间、三倍的钱，而且一次能记住的内容也更少。
""",
    "Japanese": """\
コンピューターには言葉は見えません。見えるのは数字です。おばあさんからの手紙を読めるようになる前に、手紙を小さなかけらに切り分け、\
それぞれのかけらに番号を付けなければなりません。毎日使われる言葉はたいてい一つのかけらのままですが、めずらしい名前はばらばらに\
なります。かけらを選ぶときに誰の声を聞いたかが大切です。ある言語が一ページに100個のかけらを必要とし、別の言語が300個を必要とする\
なら、二つ目のページを読むには三倍の時間と三倍のお金がかかり、一度に覚えておける量も少なくなります。
""",
    "Korean": """\
컴퓨터는 단어를 보지 않고 숫자를 봅니다. 할머니가 보내신 편지를 읽으려면 먼저 편지를 작은 조각으로 자르고 \
조각마다 번호를 붙여야 합니다. 날마다 쓰는 단어는 대개 한 조각으로 남지만 드문 이름은 부서집니다. 조각을 고를 \
때 누구의 말을 들었는지가 중요합니다. 한 언어가 한 쪽에 100조각이 필요하고 다른 언어는 300조각이 필요하다면, \
둘째 쪽을 읽는 데는 시간이 세 배로 걸리고 돈도 세 배로 들며 한 번에 기억할 수 있는 양은 더 적습니다.
""",
}

_CODE = {
    "Python": '''\
class Shelf:
    """Books in the order in which they were returned."""

    def __init__(self, capacity: int = 40) -> None:
        self.capacity = capacity
        self.books: list[str] = []

    def put(self, title: str, *, first: bool = False) -> bool:
        if len(self.books) >= self.capacity:
            return False  # somebody has to carry one to the cellar
        self.books.insert(0 if first else len(self.books), title)
        return True


if __name__ == "__main__":
    shelf = Shelf(capacity=3)
    for number, title in enumerate(["Rain", "Snow", "Fog", "Hail"], start=1):
        print(f"{number:>2}. {title:<8} {'ok' if shelf.put(title) else 'no room'}")
''',
    "C": """\
#include <stddef.h>
#include <stdint.h>

/* The longest run of equal bytes; its place goes to *start. */
size_t longest_run(const uint8_t *bytes, size_t length, size_t *start)
{
    size_t best = 0, begin = 0;

    for (size_t i = 1; i <= length; i++) {
        if (i < length && bytes[i] == bytes[begin])
            continue;
        if (i - begin > best) {
            best = i - begin;
            *start = begin;
        }
        begin = i;
    }
    return best;
}
""",
    "JSON": """\
{
  "station": "Old Harbour",
  "position": {"latitude": 54.0921, "longitude": 12.1407},
  "open": true,
  "wind": null,
  "readings": [
    {"time": "2025-11-03T06:00:00Z", "temperature": 7.4, "pressure": 1009.8},
    {"time": "2025-11-03T07:00:00Z", "temperature": 7.9, "pressure": 1010.1},
    {"time": "2025-11-03T08:00:00Z", "temperature": 9.2, "pressure": 1010.6}
  ]
}
""",
    "HTML": """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Ferry timetable</title>
    <link rel="stylesheet" href="/style.css">
  </head>
  <body>
    <h1 id="top">Ferries on weekdays</h1>
    <table class="times">
      <tr><th scope="col">Departs</th><th scope="col">Arrives</th></tr>
      <tr><td>06:40</td><td>07:25</td></tr>
      <tr><td>09:10</td><td>09:55</td></tr>
    </table>
    <p>No ferry sails when the <a href="#wind">wind</a> is too strong&nbsp;&mdash; please call.</p>
  </body>
</html>
""",
}

_NUMBERS_AND_SIGNS = {
    "arithmetic": """\
7 + 8 = 15; 46 * 12 = 552; 9,301 - 457 = 8,844; 1024 / 64 = 16
123456789 + 987654321 = 1111111110
3.14159 * 2.5 ** 2 = 19.6349375
100000 * 1.035 ** 20 = 198978.89
0.1 + 0.2 = 0.30000000000000004
0xFF = 255; 0b101010 = 42; 6.02e23 > 1.38e-23
""",
    "table of data": """\
date,station,temperature,rain,wind
2025-03-01,0417,4.25,0.0,12.7
2025-03-02,0417,5.10,1.4,18.3
2025-03-03,0417,-0.75,11.9,31.0
2025-03-04,0417,-2.20,0.3,9.6
2025-03-05,0417,3.05,0.0,7.1
""",
    "LaTeX": r"""\begin{equation}
  \mathcal{L}(\theta) = -\frac{1}{N} \sum_{i=1}^{N} \log p_\theta(x_i \mid x_{<i}),
  \qquad \nabla_\theta \mathcal{L} = \mathbb{E}_{x \sim q}\left[\sigma(s_x) - y_x\right]
\end{equation}
where $\alpha \in [0, 1)$, $\beta_2 = 0.95$ and $\|g\|_2 \le 10^{-3}$.
""",
    "emoji": """\
Monday ☔️ Tuesday ⛅ Wednesday ☀️☀️ – picnic!! 🧺🍓🥐 who is coming? 🙋🏽‍♀️🙋🏻‍♂️ 👨‍👩‍👧‍👦 ✅
Flags: 🇩🇪🇯🇵🇧🇷🇰🇪🇮🇳. Scores: ★★★☆☆ → ★★★★☆. Mood: 😀😅🥲🤯💤 ❤️‍🔥 100 % 💯
""",
}

#: Kind of text → name → text.
SAMPLES: Mapping[str, Mapping[str, str]] = {
    "prose": _PROSE,
    "other scripts": _OTHER_SCRIPTS,
    "code": _CODE,
    "numbers and signs": _NUMBERS_AND_SIGNS,
}
