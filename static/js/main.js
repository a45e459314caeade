// Behaviour is bound by data- attributes and delegated from the document, so parts swapped in later work too.
import "./themes.js";
import "./copy.js";
import "./dialog.js";
import "./toast.js";
import "./tabs.js";
import "./menu.js";
import "./form.js";
import "./time.js";
import "./contents.js";
import "./refresh.js";
import "./live.js";
import "./chart.js";
import "./print.js";
import "./forget.js";
