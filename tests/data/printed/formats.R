# What R prints of numbers, names, tables and formulas drawn at random: formats.json.
#
#   LC_ALL=C.UTF-8 Rscript formats.R OUT_DIR
#
# R 4.2.2, lines of 80 columns.
library(jsonlite); set.seed(20)
S <- function(x) I(as.character(x))
num <- function() { k <- sample(1:6,1); x <- switch(sample(6,1), rnorm(k)*10^sample(-8:9,1), rnorm(k)*10^runif(k,-5,6), signif(rnorm(k)*10^sample(-4:5,1),3), round(rnorm(k,0,100),sample(0:3,1)), c(0,round(runif(k),3)), 10^sample(-3:6,k,TRUE)-10^runif(k,-4,0)); signif(x,15)}
fmt <- lapply(1:250, function(i) { x <- num(); d <- sample(1:8,1); n <- sample(c(0,0,2,3),1); list(x=I(x),digits=d,nsmall=n,out=S(format(x,digits=d,nsmall=n))) })
rnd <- lapply(1:250, function(i) { d <- sample(0:6,1); x <- if (i%%2) sample(-10000:10000,1)/10^sample(0:5,1)+5*10^-(d+1) else rnorm(1)*10^sample(-3:6,1); x <- signif(x,15); list(x=x,d=d,out=round(x,d)) })
words <- c("attitude","pol","inf","gender","M","F","Variety","Victory","Marvellous","(Intercept)","nitro","Days","factor(Days)1","poly(x, 2)1","poly(x, 2)2","I(x^2)","log(Reaction)","recipeB","temp","a","xyz","scenario_1","treatment.effect","UPPERCASE","two words here","TypeT2","I(2 * Days)","SexFemale")
ab <- lapply(1:80, function(i) { k <- sample(1:8,1); x <- vapply(1:k, function(.) paste(sample(words,sample(1:3,1)),collapse=sample(c(":","","  "),1,prob=c(.8,.15,.05))),""); n <- sample(3:12,1); list(x=S(x),n=n,out=S(unname(abbreviate(x,n)))) })
term <- function() { v <- c("x","attitude","gender","log(y)","I(x^2)","poly(age, 2, raw = TRUE)","factor(Days)","a:b","a*b","1","0","-1","`odd name`","I(x/1e5)","offset(w)","scale(long_variable_name)","a%in%b","(a+b)^2","I(1000*x)","I(-x)","exp(-2*x+1)","I(x>=3)")
 if (runif(1)<.3) sprintf("(%s%s%s)", paste(sample(c("1","0","x","attitude","Days"),sample(1:3,1)),collapse="+"), sample(c("|","||"),1), sample(c("g","subject","a/b","a:b","scenario"),1)) else sample(v,1)}
dp <- lapply(1:80, function(i) { x <- paste0(sample(c("y","log(Reaction)","frequency","a_really_long_response_name_of_forty_characters_or_so_and_more"),1),"~",paste(replicate(sample(1:9,1),term()),collapse="+")); o <- tryCatch(deparse(as.formula(x)),error=function(e) NULL); if (is.null(o)) NULL else list(x=x,out=S(o)) })
dp <- Filter(Negate(is.null),dp)
nmv <- c("Subject","a:b","if","1a",".2x",".x","g","g.1","a b","","_z")
nm <- lapply(1:40, function(i) { x <- sample(nmv,sample(1:6,1),TRUE); list(x=S(x),out=S(make.names(x,unique=TRUE))) })
rs <- function(n) vapply(1:n, function(.) paste(sample(letters,sample(1:14,1),TRUE),collapse=""),"")
cap <- function(e) paste0(paste(capture.output(e),collapse="\n"),"\n")
mt <- lapply(1:60, function(i) { r <- sample(1:4,1); k <- sample(1:14,1); m <- matrix(rs(r*k),r,k,dimnames=list(if (runif(1)<.3) rep("",r) else rs(r),rs(k))); rt <- runif(1)<.5; list(rn=S(rownames(m)),cn=S(colnames(m)),cols=lapply(1:k,function(j) S(m[,j])),right=rt,out=cap(print(m,quote=FALSE,right=rt))) })
nd <- lapply(1:40, function(i) { k <- sample(1:20,1); x <- setNames(rs(k),rs(k)); list(nm=S(names(x)),x=S(unname(x)),out=cap(print(x,quote=FALSE))) })
fl <- lapply(1:40, function(i) { k <- sample(1:5,1); x <- vapply(1:k,function(.) paste(rep("x",sample(1:90,1)),collapse=""),""); list(x=S(x),out=cap(do.call(cat,c(as.list(x),fill=TRUE)))) })
write_json(list(format=fmt,round=rnd,abbr=ab,deparse=dp,names=nm,matrix=mt,named=nd,fill=fl),file.path(commandArgs(TRUE)[1], "formats.json"),auto_unbox=TRUE,digits=NA)
